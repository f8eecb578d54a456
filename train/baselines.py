"""Baselines as vectors of users and items, ranked by the code that ranks towers."""

from collections.abc import Callable, Mapping

import numpy as np

from train.ragged import Array
from train.statistics import Statistics

Vectors = tuple[Array, Array]


def popularity(statistics: Statistics, days: int) -> Vectors:
    """Rank by interactions of all time, the same for every user."""
    return _same_for_all(statistics, statistics.item_count)


def recent_popularity(statistics: Statistics, days: int) -> Vectors:
    """Rank by interactions of the last `days` days, equal ones by those of all time.

    Raises:
        ValueError: the statistics have no window of that length.
    """
    windows = statistics.recent_days.tolist()
    if days not in windows:
        raise ValueError(f"no recent window of {days} days; available: {windows}")
    recent = statistics.item_recent[windows.index(days)]
    share = statistics.item_count / (statistics.item_count.max(initial=0) + 1)
    return _same_for_all(statistics, recent + share)


def _same_for_all(statistics: Statistics, scores: Array) -> Vectors:
    ones = np.ones((len(statistics.user_count), 1))
    return ones, np.asarray(scores, dtype=np.float64)[:, None]


BASELINES: Mapping[str, Callable[[Statistics, int], Vectors]] = {
    "popularity": popularity,
    "recent_popularity": recent_popularity,
}

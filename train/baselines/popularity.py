"""Popularity: number of interactions of all time, and of the last days."""

from typing import Literal

from train.baselines.base import Baseline, Scorer, same_for_all
from train.core.ragged import Array
from train.data.snapshot import Snapshot
from train.data.statistics import Statistics


class Popularity(Baseline):
    """Rank by interactions of all time, the same for every user."""

    name: Literal["popularity"] = "popularity"

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the interactions of each item."""
        return same_for_all(known.statistics.item_count)


class RecentPopularity(Baseline):
    """Rank by interactions of the last days, equal ones by those of all time."""

    name: Literal["recent_popularity"] = "recent_popularity"

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the recent interactions of each item.

        Raises:
            ValueError: the statistics have no window of that length.
        """
        statistics = known.statistics
        share = statistics.item_count / (statistics.item_count.max(initial=0) + 1)
        return same_for_all(_recent(statistics, recent_days) + share)


def _recent(statistics: Statistics, days: int) -> Array:
    windows = statistics.recent_days.tolist()
    if days not in windows:
        raise ValueError(f"no recent window of {days} days; available: {windows}")
    recent: Array = statistics.item_recent[windows.index(days)]
    return recent

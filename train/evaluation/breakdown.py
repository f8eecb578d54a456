"""Breakdown of a test: users by length of history, items by number of interactions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout

RARE = 5


@dataclass(frozen=True)
class Group:
    """A part of a test's pairs.

    Attributes:
        relevant: those pairs, V rows; rows of users without any are empty.
        facts: `users` with such pairs, `pairs`, and `least` and `most` of the counts by which they
            are grouped: a user's history, an item's interactions before the test.
    """

    relevant: Ragged
    facts: Mapping[str, Any]


def groups(holdout: Holdout) -> dict[str, Group]:
    """Divide the pairs of a test by user, and once more by item.

    Users are those with a `short`, `middle` or `long` history, which are terciles, and `cold` ones
    with none. Items are `rare` with 1 to 5 interactions before the test, or `cold` without one.
    Rankings stay those of the whole catalogue, which has cold items only if the run says so.
    """
    known, relevant = holdout.known, holdout.relevant
    lengths = known.histories.lengths[holdout.users]
    histories = lengths[relevant.rows]
    taken = known.statistics.item_count[relevant.values]
    short, long = _terciles(lengths)
    chosen = {
        "short_history": (histories, (histories > 0) & (histories <= short)),
        "middle_history": (histories, (histories > short) & (histories <= long)),
        "long_history": (histories, histories > long),
        "cold_users": (histories, histories == 0),
        "rare_items": (taken, (taken > 0) & (taken <= RARE)),
        "cold_items": (taken, taken == 0),
    }
    return {name: _group(relevant, *of) for name, of in chosen.items()}


def _terciles(lengths: Array) -> tuple[float, float]:
    """Return the longest history of the first and of the second third of the users with one."""
    some = lengths[lengths > 0]
    if not len(some):
        return 0.0, 0.0
    short, long = np.quantile(some, [1 / 3, 2 / 3])
    return float(short), float(long)


def _group(relevant: Ragged, counts: Array, chosen: Array) -> Group:
    rows, values = relevant.rows[chosen], relevant.values[chosen]
    facts: dict[str, Any] = {"users": len(np.unique(rows)), "pairs": len(values)}
    if len(values):
        facts |= {"least": int(counts[chosen].min()), "most": int(counts[chosen].max())}
    return Group(Ragged.from_pairs(rows, values, len(relevant)), facts)

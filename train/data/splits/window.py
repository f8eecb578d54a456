"""Rows of a test window before any filter, counted by why they do not count."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.pairs import first_pairs, known_pairs


@dataclass(frozen=True)
class Window:
    """Rows of the test window.

    Attributes:
        rows: all of them, but for negative events.
        new_users: of users without an interaction before the test.
        new_items: of other users, with items that nobody interacted with before the test.
        repeats: of the others, those that do not count and are not the first of their pair.
        others: of these, the rest of those that do not count: too few before the test or in it, an
            event that the test does not count, an item that is hidden, what is no repeat.
        count: those that are the test. New ones are among them where the split tests these.
        users: that have a row.
        cold_users: those of them without an interaction before.
    """

    rows: int = 0
    new_users: int = 0
    new_items: int = 0
    repeats: int = 0
    others: int = 0
    count: int = 0
    users: int = 0
    cold_users: int = 0

    @classmethod
    def of(
        cls, interactions: Interactions, before: Array, test: Array, counts: Array, n_items: int
    ) -> "Window":
        """Count the rows of a test.

        Args:
            interactions: ordered by user and time.
            before: those before the test and before any filter, bool `[N]`.
            test: those in the test and before any filter, bool `[N]`.
            counts: those that count, bool `[N]`.
            n_items: I.
        """
        past, rows = (of & interactions.positive for of in (before, test))
        window, counted = interactions.take(rows), counts[rows]
        new_user = _unknown(window.user, interactions.user[past])
        new_item = ~new_user & _unknown(window.item, interactions.item[past])
        rest = np.flatnonzero(~new_user & ~new_item & ~counted)
        again = known_pairs(interactions, past, n_items)[rows]
        repeat = (again | ~first_pairs(window, n_items))[rest]
        return cls(
            rows=len(window),
            new_users=int(new_user.sum()),
            new_items=int(new_item.sum()),
            repeats=int(repeat.sum()),
            others=int((~repeat).sum()),
            count=int(counted.sum()),
            users=len(np.unique(window.user)),
            cold_users=len(np.unique(window.user[new_user])),
        )

    def record(self) -> dict[str, int]:
        """Return the counts by name, for the manifest."""
        return asdict(self)


def _unknown(index: Array, past: Array) -> Array:
    """Return whether each index `[n]` is none of the past ones `[m]`, bool `[n]`."""
    unknown = np.ones(max(int(of.max(initial=-1)) for of in (index, past)) + 1, dtype=bool)
    unknown[past] = False
    return np.asarray(unknown[index])


def sentence(window: Mapping[str, int]) -> str:
    """Return the counts of a `Window.record` in words."""
    parts = [
        f"{window['new_users']:,} of new users",
        f"{window['new_items']:,} of new items",
        f"{window['repeats']:,} repeats",
    ]
    if window["others"]:
        parts.append(f"{window['others']:,} left out by the split's minimums or as events")
    kinds = "new_users", "new_items", "repeats", "others", "count"
    both = window["rows"] < sum(window[kind] for kind in kinds)
    return (
        f"test window {window['rows']:,} rows: {', '.join(parts)}, {window['count']:,} count"
        f"{', new ones too' if both else ''}"
    )

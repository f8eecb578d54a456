"""What users interacted with before: how often, when last, and what a request adds to that.

Shapes: U users, I items, P pairs of a user and an item, B requests, C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions

DAY = 86_400
# Of an interaction now, in decayed counts. They are sums of integers, so that their order decides
# nothing; after 12 half-lives an interaction still counts 1.
UNIT = 2**12


@dataclass(frozen=True)
class Repeats:
    """Each user's distinct items, as of a moment; no later interaction counts.

    Attributes:
        items: of each user, ascending, int32 `[P]`.
        offsets: of each user's items, int64 `[U + 1]`.
        count: interactions of each pair, int32 `[P]`.
        days: since the last of them, float32 `[P]`.
        lengths: interactions of each user, the length of the stored history, int64 `[U]`.
        interval: mean days between a user's visits (distinct times); of users with one visit the
            median of the others' means, float32 `[U + 1]`; the last one is for unknown users.
        rate: share of an item's users who interacted with it more than once, float32 `[I]`.
    """

    items: Array
    offsets: Array
    count: Array
    days: Array
    lengths: Array
    interval: Array
    rate: Array

    @classmethod
    def of(cls, interactions: Interactions, n_users: int, n_items: int, as_of: int) -> "Repeats":
        """Count the interactions before `as_of` (seconds), ordered by user and time."""
        past = interactions.take(interactions.timestamp < as_of)
        key = past.user.astype(np.int64) * n_items + past.item
        pairs, place, count = np.unique(key, return_inverse=True, return_counts=True)
        last = np.full(len(pairs), np.iinfo(np.int64).min)
        np.maximum.at(last, place, past.timestamp)
        user, item = np.divmod(pairs, max(n_items, 1))
        users = np.maximum(np.bincount(item, minlength=n_items), 1)
        return cls(
            items=item.astype(np.int32),
            offsets=np.searchsorted(user, np.arange(n_users + 1)).astype(np.int64),
            count=count.astype(np.int32),
            days=((as_of - last) / DAY).astype(np.float32),
            lengths=np.bincount(past.user, minlength=n_users),
            interval=_intervals(past, n_users),
            rate=(np.bincount(item[count > 1], minlength=n_items) / users).astype(np.float32),
        )

    def arrays(self) -> dict[str, Array]:
        """Return every array by its name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Repeats":
        """Rebuild from the result of `arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def counts(self, user: Array, history: Ragged, items: Array) -> tuple[Array, Array]:
        """Return how often, and how many days ago, each of `items` was last in a history.

        What a request appends to the stored history happened now.

        Args:
            user: int32 `[B]`, -1 for an unknown one.
            history: B rows: the stored one of a known user, and what the request appends.
            items: candidates, int32 `[B, C]`.

        Returns:
            interactions, int64 `[B, C]`, and days, float32 `[B, C]`, 0 where there are none.
        """
        size = len(self.rate)
        place = found_at(self._keys, user[:, None].astype(np.int64) * size + items)
        known = place >= 0
        count = np.where(known, self.count.take(place, mode="wrap"), 0) if len(self.count) else 0
        days = np.where(known, self.days.take(place, mode="wrap"), 0) if len(self.days) else 0
        row, item, _ = appended(self.lengths, user, history)
        keys, more = np.unique(row * size + item, return_counts=True)
        here = found_at(keys, np.arange(len(user))[:, None] * size + items)
        added = np.where(here >= 0, more.take(here, mode="wrap"), 0) if len(keys) else 0
        counts = np.zeros(items.shape, np.int64) + count + added
        return counts, np.where(added > 0, np.float32(0), days).astype(np.float32)

    @cached_property
    def _keys(self) -> Array:
        users = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return users * len(self.rate) + self.items


def appended(lengths: Array, user: Array, history: Ragged) -> tuple[Array, Array, Array]:
    """Return what histories have beyond the stored ones: row, item, and place from the end (0).

    Args:
        lengths: of the stored histories, `[U]`.
        user: int32 `[B]`, -1 for an unknown one, without a stored history.
        history: B rows.
    """
    stored = np.where(user >= 0, lengths[user], 0) if len(lengths) else np.zeros(len(user), int)
    rows = history.rows
    within = np.arange(len(history.values)) - history.offsets[:-1][rows]
    new = within >= stored[rows]
    from_end = history.lengths[rows] - 1 - within
    return rows[new], history.values[new].astype(np.int64), from_end[new]


def found_at(keys: Array, wanted: Array) -> Array:
    """Return the place of each wanted integer in ascending `keys`, -1 where it is none of them."""
    if not len(keys):
        return np.full(wanted.shape, -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def _intervals(past: Interactions, n_users: int) -> Array:
    user, time = past.user, past.timestamp
    first = np.ones(len(user), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    visits = np.bincount(user[first], minlength=n_users)
    ends = np.searchsorted(user, np.arange(n_users + 1))
    several = np.flatnonzero(visits > 1)
    span = time[ends[1:][several] - 1] - time[ends[:-1][several]]
    mean = span / DAY / (visits[several] - 1)
    out = np.full(n_users + 1, np.median(mean) if len(mean) else 1.0, dtype=np.float32)
    out[several] = mean
    return np.maximum(out, np.float32(1e-3))

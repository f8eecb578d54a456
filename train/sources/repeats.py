"""The source of a user's own past: items to buy again, by a count decayed by age.

Shapes: U users, I items, P pairs of a user and an item, B requests, C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from train.core.ragged import Array, Ragged
from train.data.repeats import UNIT, appended, found_at
from train.index.candidates import Candidates, Queries

# Items appended by a request after which one counts half: they have an order, but no times.
GIVEN_HALF_LIFE = 32


@dataclass(frozen=True)
class RepeatSource:
    """Decayed counts of the items that each user interacted with.

    What a request appends to the stored history happened now, the newest last. Equal counts are
    ordered by popularity.

    Attributes:
        items: of each user, ascending, int32 `[P]`.
        offsets: of each user's items, int64 `[U + 1]`.
        counts: decayed, whole numbers, float64 `[P]`.
        lengths: of the stored histories, int64 `[U]`.
        popularity: multiples of 1 / 1024 below 1, float32 `[I]`.
        catalogue: items that may be proposed, bool `[I]`.
    """

    items: Array
    offsets: Array
    counts: Array
    lengths: Array
    popularity: Array
    catalogue: Array

    shape: ClassVar[str] = "repeats"
    reads_attributes: ClassVar[bool] = False

    def candidates(self, requests: Queries, count: int) -> Candidates:
        """Return the items of each history with the greatest counts; none of other items."""
        size, exclude = len(self.catalogue), requests.exclude
        keys, total = self._totals(requests)
        row, item = np.divmod(keys, size)
        kept = self.catalogue[item] & (found_at(_sorted_keys(exclude, size), keys) < 0)
        row, item, score = row[kept], item[kept], (total + self.popularity[item])[kept]
        order = np.lexsort((item, -score, row))
        row, item, score = row[order], item[order], score[order]
        column = np.arange(len(row)) - np.searchsorted(row, row)
        first = column < count
        items = np.full((len(requests.user), count), -1, dtype=np.int32)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        items[row[first], column[first]] = item[first]
        scores[row[first], column[first]] = score[first] / UNIT
        return Candidates(items, scores)

    def score(self, requests: Queries, items: Array) -> Array:
        """Return the counts of items `[B, C]`, float32 `[B, C]`; below 1 / 4096 for others."""
        keys, total = self._totals(requests)
        place = found_at(keys, np.arange(len(items))[:, None] * len(self.catalogue) + items)
        own = np.where(place >= 0, total.take(place, mode="wrap"), 0) if len(keys) else 0
        scores: Array = (own + self.popularity.take(items, mode="wrap")) / UNIT
        return scores.astype(np.float32)

    def within(self, mask: Array) -> "RepeatSource":
        """Return the source that proposes some of its items alone, bool `[I]`."""
        return replace(self, catalogue=self.catalogue & mask)

    def arrays(self) -> Mapping[str, Array]:
        """Return every array by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _places(self) -> Ragged:
        return Ragged(np.arange(len(self.items), dtype=np.int32), self.offsets)

    def _totals(self, requests: Queries) -> tuple[Array, Array]:
        """Return `row * I + item` of each request's own items, ascending, and their counts."""
        size = len(self.catalogue)
        stored = self._places.take(requests.user)
        row, item, place = appended(self.lengths, requests.user, requests.history)
        now = np.maximum(np.rint(UNIT * 0.5 ** (place / GIVEN_HALF_LIFE)), 1)
        key = np.concatenate([stored.rows * size + self.items[stored.values], row * size + item])
        keys, of = np.unique(key, return_inverse=True)
        return keys, np.bincount(of, np.concatenate([self.counts[stored.values], now]), len(keys))


def _sorted_keys(rows: Ragged, size: int) -> Array:
    return np.unique(rows.rows * np.int64(size) + rows.values)

"""Search over some items of an index, by an index of its own over their vectors alone.

Shapes: I items, m of them in the subset, d width, B queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.index.base import Index


@dataclass(frozen=True)
class Subset:
    """Finds the best of some items.

    Attributes:
        whole: the index over all items.
        items: the subset, ascending int32 `[m]`, so that ties are broken as in the whole.
        inner: the index over their vectors.
    """

    whole: Index
    items: Array
    inner: Index

    @property
    def report(self) -> Mapping[str, Any]:
        """Measurements of the inner index."""
        return self.inner.report

    @property
    def tunable(self) -> bool:
        """Whether there are settings to choose: never, it is made for a request."""
        return False

    def search(self, vectors: Array, k: int, exclude: Ragged | None = None) -> tuple[Array, Array]:
        """Return the `k` best items of every query; see `train.index.base.Index`."""
        if not len(self.items):
            none: Array = np.full((len(vectors), k), -1, dtype=np.int32)
            return none, np.full((len(vectors), k), -np.inf, dtype=np.float32)
        items, scores = self.inner.search(
            vectors, k, None if exclude is None else self._own(exclude)
        )
        return np.where(items >= 0, self.items[items], -1).astype(np.int32), scores

    def pair_scores(self, users: Array, items: Array) -> Array:
        """Return the score of each user vector `[P, d]` with the item vector of its row, `[P]`."""
        return self.whole.pair_scores(users, items)

    def variants(self, k: int) -> Sequence[tuple[int, Index]]:
        """Return none."""
        return ()

    def within(self, items: Array) -> Index:
        """Return the search over some of the items."""
        return self.whole.within(np.intersect1d(self.items, items))

    def save(self, folder: Path) -> None:
        """Raise TypeError: what was made for a request is not stored."""
        raise TypeError("an index over a subset is not stored")

    def _own(self, exclude: Ragged) -> Ragged:
        """Return the excluded items that are in the subset, by their places in it."""
        place = np.searchsorted(self.items, exclude.values)
        place[place == len(self.items)] = 0
        inside = self.items[place] == exclude.values
        return Ragged.from_pairs(exclude.rows[inside], place[inside], len(exclude))

"""Sources that propose one list to everybody: popular, recently popular, trending items.

Shapes: I items, B requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates, Queries


@dataclass(frozen=True)
class ListSource:
    """A score for each item, the same for every request.

    Attributes:
        scores: float32 `[I]`.
        catalogue: items that may be proposed, bool `[I]`.
    """

    scores: Array
    catalogue: Array

    shape: ClassVar[str] = "list"
    reads_attributes: ClassVar[bool] = False

    def candidates(self, requests: Queries, count: int) -> Candidates:
        """Return the head of the list, without what each request excludes."""
        exclude, n = requests.exclude, len(requests.user)
        head = self._order[: count + int(exclude.lengths.max(initial=0))]
        place = self._place[exclude.values]
        kept = np.ones((n, len(head)), dtype=bool)
        inside = place < len(head)
        kept[exclude.rows[inside], place[inside]] = False
        target = np.cumsum(kept, axis=1) - 1
        row, column = np.nonzero(kept & (target < count))
        items = np.full((n, count), -1, dtype=np.int32)
        scores = np.full((n, count), -np.inf, dtype=np.float32)
        items[row, target[row, column]] = head[column]
        scores[row, target[row, column]] = self.scores[head[column]]
        return Candidates(items, scores)

    def score(self, requests: Queries, items: Array) -> Array:
        """Return the scores of items `[B, C]`, float32 `[B, C]`."""
        return self.scores.take(items, mode="wrap")

    def within(self, mask: Array) -> "ListSource":
        """Return the source that proposes some of its items alone, bool `[I]`."""
        made = ListSource(self.scores, self.catalogue & mask)
        made.__dict__["_order"] = self._order[mask[self._order]]
        return made

    def arrays(self) -> Mapping[str, Array]:
        """Return every array by its name."""
        return {"scores": self.scores, "catalogue": self.catalogue}

    @cached_property
    def _order(self) -> Array:
        """The catalogue, best first, equal ones by item."""
        order = np.argsort(-self.scores, kind="stable")
        return order[self.catalogue[order]].astype(np.int32)

    @cached_property
    def _place(self) -> Array:
        """Place of each item in the list; behind it for items outside the catalogue, `[I]`."""
        place = np.full(len(self.scores), len(self.scores), dtype=np.int64)
        place[self._order] = np.arange(len(self._order))
        return place

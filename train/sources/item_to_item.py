"""Sources that score by weights between items: the sum of those of the history's items.

Shapes: I items, B requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries
from train.sources.sums import BLOCK, Sums, best_of_sums, in_blocks, picked_of_sums
from train.sources.vectors import distinct_items


@dataclass(frozen=True)
class ItemToItemSource:
    """Weights from each item of a history to others: itemKNN, EASE, SLIM.

    Attributes:
        values: weights, float32 `[E]`.
        columns: the item that each is for, int32 `[E]`.
        offsets: of the weights of each item of a history, int64 `[I + 1]`.
        catalogue: items that may be proposed, bool `[I]`.
    """

    values: Array
    columns: Array
    offsets: Array
    catalogue: Array

    shape: ClassVar[str] = "item_to_item"
    reads_attributes: ClassVar[bool] = False

    @classmethod
    def strongest(
        cls, weights: Any, known: Array, catalogue: Array, count: int
    ) -> "ItemToItemSource":
        """Keep the `count` weights of the greatest size from each item.

        Args:
            weights: of warm items, dense or sparse `[m, m]`; a row is an item of the history.
            known: those items, int `[m]`.
            catalogue: items that may be proposed, bool `[I]`.
            count: kept of each row.
        """
        rows, columns, values = _largest(weights, count)
        shape = len(catalogue), len(catalogue)
        matrix = csr_array((values, (known[rows], known[columns])), shape=shape)
        matrix.sort_indices()
        return cls(
            matrix.data.astype(np.float32),
            matrix.indices.astype(np.int32),
            matrix.indptr.astype(np.int64),
            catalogue,
        )

    def candidates(self, requests: Queries, count: int) -> Candidates:
        """Return the items with the greatest sums; none without a weight is a candidate."""
        sums = self._blocks(requests.history)
        return best_of_sums(sums, requests, self._outside, count)

    def score(self, requests: Queries, items: Array) -> Array:
        """Return the sums of items `[B, C]`, float32 `[B, C]`; 0 for items without a weight."""
        return picked_of_sums(self._blocks(requests.history), items)

    def within(self, mask: Array) -> "ItemToItemSource":
        """Return the source that proposes some of its items alone, bool `[I]`."""
        return replace(self, catalogue=self.catalogue & mask)

    def arrays(self) -> Mapping[str, Array]:
        """Return every array by its name."""
        return {
            "values": self.values,
            "columns": self.columns,
            "offsets": self.offsets,
            "catalogue": self.catalogue,
        }

    @cached_property
    def _outside(self) -> Array:
        return np.flatnonzero(~self.catalogue)

    def _blocks(self, history: Ragged) -> Sums:
        """Yield rows `[b]` and their sums, float32 `[b, I]`: in the order of the items, always."""
        size = len(self.catalogue)
        distinct = distinct_items(history, size)
        for rows in in_blocks(len(history), size):
            some = distinct.take(rows)
            start = self.offsets[some.values]
            count = self.offsets[some.values + 1] - start
            # Of each weight its row among the requests, and its place among all weights.
            first = np.cumsum(count) - count
            place = np.arange(count.sum()) + np.repeat(start - first, count)
            cell = np.repeat(some.rows * size, count) + self.columns[place]
            # A sparse product of a few rows takes three times as long.
            sums = np.bincount(cell, self.values[place], len(rows) * size)
            yield rows, sums.astype(np.float32).reshape(len(rows), size)


def _largest(weights: Any, count: int) -> tuple[Array, Array, Array]:
    """Return rows, columns and values of the greatest sizes of each row, zeros left out."""
    if isinstance(weights, np.ndarray):
        return _largest_of_dense(weights, count)
    matrix = csr_array(weights)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -np.abs(matrix.data), rows))
    place = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept = order[(place < count) & (matrix.data[order] != 0)]
    return rows[kept], matrix.indices[kept], matrix.data[kept]


def _largest_of_dense(weights: Array, count: int) -> tuple[Array, Array, Array]:
    parts = []
    step = max(1, BLOCK // max(weights.shape[1], 1))
    for start in range(0, len(weights), step):
        block = weights[start : start + step]
        columns, _ = top_k(np.abs(block), min(count, block.shape[1]))
        values = np.take_along_axis(block, columns, axis=1)
        rows = np.repeat(np.arange(start, start + len(block)), columns.shape[1])
        kept = values.ravel() != 0
        parts.append((rows[kept], columns.ravel()[kept], values.ravel()[kept]))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]

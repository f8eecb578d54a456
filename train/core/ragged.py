"""Rows of different lengths in two flat arrays: histories, categories, ground truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """`B` rows of integers; row b is `values[offsets[b]:offsets[b + 1]]`.

    Attributes:
        values: int32 `[N]`.
        offsets: int64 `[B + 1]`, starting at 0, never decreasing, ending at N.
    """

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """Length of each row, int64 `[B]`."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> Array:
        """Row number of each value, int64 `[N]`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, index: Array) -> "Ragged":
        """Return the rows `index` (integers `[M]`, repeats allowed, -1 gives an empty row)."""
        index = np.asarray(index, dtype=np.int64)
        lengths = np.where(index >= 0, self.lengths[index] if len(self) else 0, 0)
        offsets = _offsets(lengths)
        starts = np.where(index >= 0, self.offsets[:-1][index] if len(self) else 0, 0)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(starts, lengths) + within], offsets)

    def last(self, count: int) -> Array:
        """Return the last `count` values of each row, int32 `[B, count]`, -1 before short rows."""
        position = self.offsets[1:, None] - np.arange(count, 0, -1)[None, :]
        inside = position >= self.offsets[:-1, None]
        if not len(self.values):
            return np.full((len(self), count), -1, dtype=np.int32)
        values = self.values[np.where(inside, position, 0)]
        return np.where(inside, values, -1).astype(np.int32)

    def join(self, other: "Ragged") -> "Ragged":
        """Return rows that hold this one's values followed by `other`'s, row by row."""
        rows = np.concatenate([self.rows, other.rows])
        order = np.argsort(rows, kind="stable")
        values = np.concatenate([self.values, other.values])[order]
        return Ragged(values, self.offsets + other.offsets)

    def complement(self, size: int) -> "Ragged":
        """Return the integers below `size` that are not in each row, ascending."""
        missing = np.ones((len(self), size), dtype=bool)
        missing[self.rows, self.values] = False
        rows, values = np.nonzero(missing)
        return Ragged(values.astype(np.int32), _offsets(np.bincount(rows, minlength=len(self))))

    @classmethod
    def from_rows(cls, rows: Sequence[Iterable[int]]) -> "Ragged":
        """Build from Python rows; for requests and tests, not for whole data sets."""
        lists = [np.fromiter(row, dtype=np.int32) for row in rows]
        values = np.concatenate([np.empty(0, np.int32), *lists])
        return cls(values, _offsets(np.array([len(row) for row in lists], dtype=np.int64)))

    @classmethod
    def from_pairs(cls, rows: Array, values: Array, count: int) -> "Ragged":
        """Group `values` `[N]` by their row number `rows` `[N]` into `count` rows, order kept."""
        offsets = _offsets(np.bincount(rows, minlength=count))
        if not (rows[1:] < rows[:-1]).any():  # interactions are in order, and are not copied
            return cls(np.asarray(values, dtype=np.int32), offsets)
        order = np.argsort(rows, kind="stable")
        return cls(np.asarray(values)[order].astype(np.int32), offsets)

    @classmethod
    def empty(cls, count: int) -> "Ragged":
        """Return `count` empty rows."""
        return cls(np.empty(0, np.int32), np.zeros(count + 1, np.int64))


def _offsets(lengths: Array) -> Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

"""Encoded attributes of users or of items."""

from dataclasses import dataclass

import numpy as np

from train.core.ragged import Array, Ragged


@dataclass(frozen=True)
class Features:
    """Encoded attributes of the users or of the items.

    Attributes:
        dense: scaled numbers, flags, text and embeddings, float32 `[n, D]`.
        dense_names: `[D]`.
        categories: codes of each row in one vocabulary over all category columns, `n` rows.
        vocabulary: `column=value` of each code, `[V]`.
    """

    dense: Array
    dense_names: tuple[str, ...]
    categories: Ragged
    vocabulary: tuple[str, ...]

    @classmethod
    def empty(cls, count: int) -> "Features":
        """Return the features of `count` rows that have no attributes."""
        return cls(np.zeros((count, 0), np.float32), (), Ragged.empty(count), ())

    def take(self, rows: Array) -> "Features":
        """Return some of the rows, `[m]`; -1 gives one without attributes."""
        dense = np.where((rows >= 0)[:, None], self.dense[rows], 0) if len(self.dense) else None
        return Features(
            np.zeros((len(rows), self.dense.shape[1]), np.float32) if dense is None else dense,
            self.dense_names,
            self.categories.take(rows),
            self.vocabulary,
        )

    def distinct(self, rows: Array) -> int:
        """Return how many different rows there are among some, `[m]`."""
        _, dense = np.unique(self.dense[rows], axis=0, return_inverse=True)
        part = self.categories.take(rows)
        # Sums of a random number a code tell sets of codes apart.
        numbers = np.random.default_rng(0).integers(2**62, size=len(self.vocabulary) + 1)
        sums = np.zeros(len(rows), np.int64)
        np.add.at(sums, part.rows, numbers[part.values])
        return len(np.unique(np.column_stack([dense.ravel(), sums]), axis=0))

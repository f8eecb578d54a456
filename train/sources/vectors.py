"""Sources that score by inner products: an item has a vector, a user is folded in from a history.

Shapes: I items, B requests, d width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from train.core.ragged import Array, Ragged
from train.index.base import Index
from train.index.candidates import Candidates, Queries
from train.index.vector_index import VectorIndex, catalogue_members

# Items of histories, padding counted, that are solved at once: 2**16 vectors.
SOLVED = 2**16


@dataclass(frozen=True)
class VectorSource:
    """A factorization: the vector of a user is the least-squares solution for the history.

    With Y the items' vectors, V those of the history and c the confidence in an interaction, a
    user's vector x solves `(Y^T Y + regularization I + (c - 1) V^T V) x = c V^T 1` (Hu, Koren,
    Volinsky 2008, equation 4). With a confidence of 1 that is the sum of the history's vectors
    times one matrix, and a projection (PureSVD) where that matrix is the identity.

    Attributes:
        items: vectors, float32 `[I, d]`.
        catalogue: items that may be proposed, bool `[I]`.
        folding: `(Y^T Y + regularization I)^-1`, or the identity, float32 `[d, d]`.
        confidence: in an interaction, where one in its absence is 1, float64 `[]`.
    """

    items: Array
    catalogue: Array
    folding: Array
    confidence: Array

    shape: ClassVar[str] = "vectors"
    reads_attributes: ClassVar[bool] = False

    def candidates(self, requests: Queries, count: int) -> Candidates:
        """Search the items' vectors exactly; a user of whom they say nothing has no candidates."""
        users = self.users(requests.history)
        items = np.full((len(users), count), -1, dtype=np.int32)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        some = np.flatnonzero(users.any(axis=1))
        if len(some) and self.catalogue.any():
            exclude = requests.exclude if len(some) == len(users) else requests.exclude.take(some)
            items[some], scores[some] = self._index.search(users[some], count, exclude)
        return Candidates(items, scores)

    def score(self, requests: Queries, items: Array) -> Array:
        """Return the inner products with items `[B, C]`, float32 `[B, C]`."""
        # Not a product of matrices, which rounds an item by its place among the others.
        users = self.users(requests.history)
        scores: Array = np.einsum("bcd,bd->bc", self.items[items], users)
        return scores.astype(np.float32)

    def users(self, history: Ragged) -> Array:
        """Return the vectors of users with these histories, float32 `[B, d]`; 0 for empty ones.

        An item of a history counts once. The newest vectors are kept: candidates of a list of
        requests, and scores of what others propose to it, want the same.
        """
        newest: tuple[Ragged, Array] | None = self.__dict__.get("_newest")
        if newest is not None and newest[0] is history:
            return newest[1]
        vectors = self._users(history)
        vectors.setflags(write=False)
        self.__dict__["_newest"] = history, vectors
        return vectors

    def _users(self, history: Ragged) -> Array:
        distinct = distinct_items(history, len(self.items))
        if float(self.confidence) == 1.0:
            return self._summed(distinct)
        vectors = np.zeros((len(history), self.items.shape[1]), dtype=np.float32)
        # To a power of two, so that a history is padded by its own length, whatever the batch.
        widths = np.left_shift(1, np.frexp(distinct.lengths - 0.5)[1].astype(np.int64))
        widths[distinct.lengths == 0] = 0
        for width in np.unique(widths[widths > 0]):
            rows = np.flatnonzero(widths == width)
            for part in np.array_split(rows, -(-len(rows) * int(width) // SOLVED)):
                vectors[part] = self._solved(distinct.take(part).last(int(width)))
        return vectors

    def within(self, mask: Array) -> "VectorSource":
        """Return the source that proposes some of its items alone, bool `[I]`."""
        made = replace(self, catalogue=self.catalogue & mask)
        if made.catalogue.any():
            made.__dict__["_index"] = self._index.within(np.flatnonzero(made.catalogue))
        return made

    def arrays(self) -> Mapping[str, Array]:
        """Return every array by its name."""
        return {
            "items": self.items,
            "catalogue": self.catalogue,
            "folding": self.folding,
            "confidence": self.confidence,
        }

    @cached_property
    def _index(self) -> Index:
        members = catalogue_members(self.items, self.catalogue)
        return VectorIndex(self.items, members, None, {"used": "exact"})

    @cached_property
    def _gram_inverse(self) -> Array:
        return self.folding.astype(np.float64)

    def _summed(self, history: Ragged) -> Array:
        from scipy.sparse import csr_array

        folded = self._folded
        ones = np.ones(len(history.values), np.float32)
        shape = len(history), len(self.items)
        matrix = csr_array((ones, history.values, history.offsets), shape=shape)
        return np.asarray(matrix @ folded)

    @cached_property
    def _folded(self) -> Array:
        return self._folded_items.astype(np.float32)

    @cached_property
    def _folded_items(self) -> Array:
        return self.items.astype(np.float64) @ self._gram_inverse

    def _solved(self, history: Array) -> Array:
        """Solve for the users of histories `[B, h]`, -1 for none: each has a matrix of its own.

        It is of the h items, or of the d elements, whichever are fewer: with Y of the history, G
        the folding and c the confidence, `(G^-1 + (c - 1) Y^T Y)^-1 Y^T` is also
        `G Y^T (I + (c - 1) Y G Y^T)^-1` (the push-through identity).
        """
        present = (history >= 0).astype(np.float64)
        own = self.items[history].astype(np.float64) * present[..., None]
        # Stacks of products, one a user: a single one rounds a row by how many others there are.
        if history.shape[1] < len(self.folding):
            return self._solved_by_items(own, self._folded_items[history], present)
        first = ((float(self.confidence) * own.sum(axis=1))[:, None] @ self._gram_inverse)[:, 0]
        squares = own.transpose(0, 2, 1) @ own
        left = np.eye(len(self.folding)) + self._extra * self._gram_inverse @ squares
        return np.linalg.solve(left, first[..., None])[..., 0].astype(np.float32)

    def _solved_by_items(self, own: Array, folded: Array, present: Array) -> Array:
        folded *= present[..., None]
        left = np.eye(own.shape[1]) + self._extra * (own @ folded.transpose(0, 2, 1))
        shares = np.linalg.solve(left, float(self.confidence) * present[..., None])
        return (shares.transpose(0, 2, 1) @ folded)[:, 0].astype(np.float32)

    @property
    def _extra(self) -> float:
        return float(self.confidence) - 1


def distinct_items(history: Ragged, n_items: int) -> Ragged:
    """Return each row's distinct items, in ascending order.

    Args:
        history: B rows of items.
        n_items: I.
    """
    keys = np.unique(history.rows * np.int64(n_items) + history.values)
    rows, items = np.divmod(keys, max(n_items, 1))
    return Ragged.from_pairs(rows, items, len(history))

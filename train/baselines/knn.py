"""Neighbourhood models: itemKNN and userKNN."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse
from pydantic import Field

from train.baselines.base import Collaborative, Scorer, with_rows
from train.core.ragged import Array
from train.data.snapshot import Snapshot


class ItemKNN(Collaborative):
    """Items similar to those of the history, by the cosine of TF-IDF weights.

    Sarwar et al. 2001; Deshpande, Karypis 2004. A user with a short history counts more for each
    item in it: that is the IDF.

    Attributes:
        neighbours: similar items kept of each item, itself among them; None picks 20 to 500 on the
            validation window, and is 100 where that has no users.
    """

    name: Literal["itemknn"] = "itemknn"
    neighbours: int | None = Field(default=None, ge=1)
    grid = ({"neighbours": (20, 50, 100, 200, 500)},)
    fallback: ClassVar[Mapping[str, Any]] = {"neighbours": 100}

    def learn(self, matrix: Any, seed: int, asked: Any = None) -> Scorer:
        """Score by the nearest items of the history's items."""
        similarity, rows = self.similarity(matrix), with_rows(matrix, asked)
        return lambda users: dense_scores(rows[users] @ similarity)

    def learn_each(
        self, choices: Sequence[Self], matrix: Any, seed: int, asked: Any = None
    ) -> Iterator[Scorer]:
        """Score by the nearest of one neighbourhood, the largest of all choices."""
        counts, rows = [_count(choice) for choice in choices], with_rows(matrix, asked)
        most = self.model_copy(update={"neighbours": max(counts)}).similarity(matrix).tocsr()
        place = places(most)
        for count in counts:
            similarity = where(most, place < count)
            yield lambda users, near=similarity: dense_scores(rows[users] @ near)  # type: ignore[misc]

    def similarity(self, matrix: Any) -> Any:
        """Return the nearest items of each item, CSR `[I, I]`."""
        from sklearn.preprocessing import normalize

        weighted = matrix.T.tocsr().astype(np.float64).multiply(_idf(matrix.T)[None]).tocsr()
        # An item whose users all have weight 0 has length 0, and stays without neighbours.
        return nearest(normalize(weighted), _count(self))


class UserKNN(Collaborative):
    """Items of the most similar users by BM25 (Robertson, Zaragoza 2009; Herlocker et al. 1999).

    Attributes:
        neighbours: similar users kept of each user, themselves among them; memory grows with
            U x neighbours. None picks 20 to 1,000 on the validation window, and is 100 where that
            has no users.
    """

    name: Literal["userknn"] = "userknn"
    folds_in: ClassVar[bool] = False
    neighbours: int | None = Field(default=None, ge=1)
    grid = ({"neighbours": (20, 50, 100, 200, 500, 1000)},)
    fallback: ClassVar[Mapping[str, Any]] = {"neighbours": 100}

    def learn(self, matrix: Any, seed: int, asked: Any = None) -> Scorer:
        """Score by the items of the nearest users; others have no neighbours."""
        similarity = self.similarity(matrix)
        return lambda users: dense_scores(similarity[users] @ matrix)

    def learn_each(
        self, choices: Sequence[Self], matrix: Any, seed: int, asked: Any = None
    ) -> Iterator[Scorer]:
        """Score by the nearest of one neighbourhood, the largest of all choices."""
        counts = [_count(choice) for choice in choices]
        most = self.model_copy(update={"neighbours": max(counts)}).similarity(matrix).tocsr()
        place = places(most)
        for count in counts:
            similarity = where(most, place < count)
            yield lambda users, near=similarity: dense_scores(near[users] @ matrix)  # type: ignore[misc]

    def options(self, key: str, values: tuple[Any, ...], known: Snapshot) -> tuple[Any, ...]:
        """Return the values of a setting; neighbours are no more than there are warm users."""
        most = max(int(known.inputs.warm_users.sum()), 1)
        return tuple(dict.fromkeys(min(value, most) for value in values))

    def similarity(self, matrix: Any) -> Any:
        """Return the nearest users of each user, CSR `[U, U]`."""
        weighted = matrix.astype(np.float64).multiply(
            _saturation(matrix)[:, None] * _idf(matrix)[None]
        )
        return nearest(weighted.tocsr(), _count(self))


def places(rows: Any) -> Array:
    """Return the place of each value in its row of a CSR matrix, the largest first, then by column.

    Returns:
        int64 `[nnz]`, in the order of the values.
    """
    row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((rows.indices, -rows.data, row))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - rows.indptr[row[order]]
    return place


def where(rows: Any, kept: Array) -> Any:
    """Return a CSR matrix with some of its values, bool `[nnz]`."""
    offsets = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return scipy.sparse.csr_array((rows.data[kept], rows.indices[kept], offsets), shape=rows.shape)


def _count(model: ItemKNN | UserKNN) -> int:
    count = model.settled().neighbours
    assert count is not None
    return count


def _idf(rows: Any) -> Array:
    """Return the inverse document frequency `ln(n / (1 + rows with the column))`, float64 `[m]`.

    implicit has it as a difference of logarithms, which leaves rounding noise where 0 is right, on
    some processors and not on others; a row of nothing but noise is then normalized to length 1.
    The logarithm of the quotient is exactly 0 there, and taken with more bits than are kept of it,
    it is the same on every processor.

    Args:
        rows: 0/1, sparse `[n, m]`.
    """
    count = np.bincount(rows.tocsr().indices, minlength=rows.shape[1])
    quotient = rows.shape[0] / (1.0 + count)
    return np.asarray(np.log(quotient.astype(np.longdouble)), np.float64)


def _saturation(rows: Any, k1: float = 1.2, b: float = 0.75) -> Array:
    """Return BM25's weight of a term that occurs once in each row, float64 `[n]`.

    Args:
        rows: 0/1, CSR `[n, m]`.
        k1: how fast further occurrences stop counting.
        b: how much the length of a row counts.
    """
    length = np.diff(rows.indptr)
    relative = length / max(float(length.mean()), 1.0 / max(len(length), 1))
    return np.asarray((k1 + 1) / (k1 * (1 - b + b * relative) + 1))


def nearest(rows: Any, count: int) -> Any:
    """Return the largest inner products of each row with all rows, CSR [n, n]."""
    from implicit.nearest_neighbours import ItemItemRecommender

    model = ItemItemRecommender(K=count)
    model.fit(rows.T.tocsr(), show_progress=False)
    return model.similarity


def dense_scores(scores: Any) -> Array:
    """Return a sparse matrix of scores as a dense one."""
    return np.asarray(scores.toarray())

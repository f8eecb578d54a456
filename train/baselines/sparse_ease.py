"""EASE with weights from a few neighbours of each item: for catalogues whose pairs are too many.

Shapes: U users, I items, m neighbours, n items solved for at a time.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from train.baselines.knn import nearest
from train.core.blocks import work_blocks
from train.core.ragged import Array

logger = logging.getLogger(__name__)
NEIGHBOURS = 50
STEP = 2048  # items solved for at a time
# Products of two items of one user, at most: some seconds, and some 800 MB where all pairs differ.
PRODUCTS = 2 * 10**8
BLOCK = 2**24  # products whose results are in memory at once: some 200 MB


def sparse_weights(matrix: Any, penalties: Sequence[float]) -> list[Any]:
    """Return EASE's weights where each item is predicted from 50 others, for each penalty.

    Of an item j with the neighbours S these solve `(G[S, S] + penalty I) w = G[S, j]`, G the
    co-occurrences `X^T X`: the exact ridge regression of the item on its neighbours, those with the
    greatest cosines (Steck 2019, "Markov random fields", has such a support for all items at once).

    Args:
        matrix: interactions X, 0/1, CSR float32 `[U, I]`.
        penalties: each added to the diagonal.

    Returns:
        for each penalty CSR float32 `[I, I]`; a column has the weights of what predicts that item.
    """
    near, present = _neighbours(matrix)
    pairs = _pairs(_at_most(matrix, PRODUCTS))
    weights = np.zeros((len(penalties), *near.shape), np.float32)
    for start in range(0, len(near), STEP):
        part = slice(start, start + STEP)
        among, own = _co_occurrences(pairs, near[part], present[part], start)
        for place, penalty in enumerate(penalties):
            weights[place, part] = _solved(among, own, penalty)
    return [_matrix(near, present, of) for of in weights]


def _neighbours(matrix: Any) -> tuple[Array, Array]:
    """Return the items with the greatest cosines to each, int `[I, m]`, and whether there are."""
    from sklearn.preprocessing import normalize

    size = matrix.shape[1]
    similar = nearest(normalize(matrix.T.tocsr().astype(np.float64)), NEIGHBOURS + 1).tocoo()
    other = (similar.row != similar.col) & (similar.data > 0)
    row, column, cosine = similar.row[other], similar.col[other], similar.data[other]
    order = np.lexsort((column, -cosine, row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < NEIGHBOURS
    near = np.zeros((size, NEIGHBOURS), np.int64)
    present = np.zeros((size, NEIGHBOURS), bool)
    near[row[kept], place[kept]] = column[kept]
    present[row[kept], place[kept]] = True
    return near, present


def _at_most(matrix: Any, products: int) -> Any:
    """Return the matrix without some items of the users with the most, that pairs are few enough.

    Those left out are drawn, by a fixed seed.
    """
    lengths = np.diff(matrix.indptr).astype(np.int64)
    if (lengths**2).sum() <= products:
        return matrix
    longest: Array = np.sort(lengths)
    # With all users cut to a length: the squares of the shorter ones, and its own for the others.
    below = np.cumsum(longest**2) + longest**2 * np.arange(len(longest) - 1, -1, -1)
    place = int(np.searchsorted(below, products, side="right"))
    limit = int(longest[max(place - 1, 0)])
    user = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((np.random.default_rng(0).random(len(user)), user))
    kept = np.sort(order[np.arange(len(user)) - matrix.indptr[user] < limit])
    logger.info(
        "ease: counts pairs of %d items of a user at most, drawn; %.1f %% of the interactions",
        limit,
        100 * len(kept) / len(user),
    )
    index = user[kept], matrix.indices[kept]
    return scipy.sparse.csr_array((matrix.data[kept], index), shape=matrix.shape)


def _pairs(matrix: Any) -> Any:
    """Return the co-occurrences of each item with itself and with those after it, CSR `[I, I]`."""
    by_item, size = matrix.T.tocsr(), matrix.shape[1]
    work = by_item @ np.diff(matrix.indptr).astype(np.float64)
    parts: list[tuple[Array, Array, Array]] = []
    for low, high in work_blocks(work, BLOCK):
        counts = (by_item[low:high] @ matrix).tocsr()
        counts.sort_indices()
        row = np.repeat(np.arange(low, high), np.diff(counts.indptr))
        kept = counts.indices >= row
        lengths = np.bincount(row[kept] - low, minlength=high - low)
        parts.append((counts.data[kept], counts.indices[kept], lengths))
    data, columns, lengths = (np.concatenate(part) for part in zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return scipy.sparse.csr_array((data, columns, offsets), shape=(size, size))


def _looked_up(pairs: Any, one: Array, other: Array) -> Array:
    """Return the co-occurrences of items `[n]` and `[n]`, in any order, `[n]`."""
    return np.asarray(pairs[np.minimum(one, other), np.maximum(one, other)])


def _co_occurrences(pairs: Any, near: Array, present: Array, first: int) -> tuple[Array, Array]:
    """Return the co-occurrences among neighbours, `[n, m, m]`, and with the item, `[n, m]`."""
    left, right = np.triu_indices(near.shape[1])
    found = _looked_up(pairs, near[:, left].ravel(), near[:, right].ravel())
    among = np.zeros((len(near), near.shape[1], near.shape[1]))
    among[:, left, right] = among[:, right, left] = found.reshape(len(near), -1)
    among *= present[:, :, None] & present[:, None, :]
    item = np.repeat(np.arange(first, first + len(near)), near.shape[1])
    own = _looked_up(pairs, near.ravel(), item).reshape(near.shape)
    return among, own * present


def _solved(among: Array, own: Array, penalty: float) -> Array:
    diagonal = np.arange(among.shape[1])
    added = among.copy()
    added[:, diagonal, diagonal] += penalty
    return np.asarray(np.linalg.solve(added, own[..., None])[..., 0])


def _matrix(near: Array, present: Array, weights: Array) -> Any:
    column = np.repeat(np.arange(len(near)), near.shape[1]).reshape(near.shape)
    index = near[present], column[present]
    return scipy.sparse.csr_array((weights[present], index), shape=(len(near), len(near)))

"""Exact rankings of the whole catalogue for many users, in blocks."""

from collections.abc import Callable, Sequence

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k


def rank_catalogue(
    users: Array, items: Array, catalogue: Array, exclude: Ragged, k: int, block: int = 512
) -> Array:
    """Rank the whole catalogue for every user by inner product.

    Args:
        users: float32 `[U, d]`.
        items: float32 `[I, d]`.
        catalogue: items that may be ranked, bool `[I]`.
        exclude: items of each user that may not, `U` rows.
        k: how many.
        block: users whose scores are in memory at a time.

    Returns:
        item indices, best first, int32 `[U, k]`; -1 where the catalogue has no more.
    """
    every = np.arange(len(users))
    return rank_scores(lambda rows: users[rows] @ items.T, every, catalogue, exclude, k, block)


def rank_scores(
    score: Callable[[Array], Array],
    users: Array,
    catalogue: Array,
    exclude: Ragged,
    k: int,
    block: int = 512,
) -> Array:
    """Rank the whole catalogue for every user by what `score` gives, in blocks of users.

    Args:
        score: from users `[B]` to floats `[B, I]`, which are written over.
        users: whom it is asked for, `[U]`.
        catalogue: items that may be ranked, bool `[I]`.
        exclude: items of each user that may not, `U` rows.
        k: how many.
        block: users whose scores are in memory at a time.

    Returns:
        item indices, best first, int32 `[U, k]`; -1 where the catalogue has no more.
    """
    return rank_excluding(score, users, catalogue, [exclude], k, block)[0]


def rank_excluding(
    score: Callable[[Array], Array],
    users: Array,
    catalogue: Array,
    excludes: Sequence[Ragged],
    k: int,
    block: int = 512,
) -> list[Array]:
    """Rank as `rank_scores` does, once for each of `excludes`, of scores that are computed once.

    Args:
        score: from users `[B]` to floats `[B, I]`, which are written over.
        users: whom it is asked for, `[U]`.
        catalogue: items that may be ranked, bool `[I]`.
        excludes: items of each user that may not, `U` rows each, beside those of the one before.
        k: how many.
        block: users whose scores are in memory at a time.

    Returns:
        for each of `excludes` item indices, best first, int32 `[U, k]`; -1 where there are no more.
    """
    ranked = [np.full((len(users), k), -1, dtype=np.int32) for _ in excludes]
    absent = np.flatnonzero(~catalogue)
    for start in range(0, len(users), block):
        rows = np.arange(start, min(start + block, len(users)))
        scores = score(users[rows])
        scores[:, absent] = -np.inf
        for out, exclude in zip(ranked, excludes, strict=True):
            known = exclude.take(rows)
            scores[known.rows, known.values] = -np.inf
            index, best = top_k(scores, k)
            out[rows, : index.shape[1]] = np.where(np.isfinite(best), index, -1)
    return ranked

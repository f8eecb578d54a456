"""Exact rankings of the whole catalogue for many users, in blocks."""

from collections.abc import Callable, Sequence

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k


def rank_catalogue(
    users: Array, items: Array, catalogue: Array, exclude: Ragged, k: int, block: int = 512
) -> Array:
    """Rank the whole catalogue for every user by inner product.

    Items with equal vectors have equal scores, so the one with the smaller index comes first.

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
    copies, originals = _repeated_rows(items)

    def score(rows: Array) -> Array:
        scores = users[rows] @ items.T
        # A product of matrices rounds an item by its place among the others.
        scores[:, copies] = scores[:, originals]
        return scores

    return rank_scores(score, np.arange(len(users)), catalogue, exclude, k, block)


def _repeated_rows(vectors: Array) -> tuple[Array, Array]:
    """Return the items whose vector an earlier item has, `[n]`, and the first of these, `[n]`.

    Rows are compared by sums of their bits, weighted at random: of integers, so that equal rows
    have equal sums. Sorting one number a row is cheaper than sorting rows; those that have the same
    sum by chance are told apart afterwards.

    Args:
        vectors: float32 `[I, d]`.
    """
    # Adding 0 turns -0.0, which is equal to 0.0, into its bits.
    bits = np.ascontiguousarray(vectors + np.float32(0), np.float32).view(np.uint32)
    weights = np.random.default_rng(0).integers(0, 2**63, bits.shape[1], dtype=np.uint64)
    sums = bits.astype(np.uint64) @ weights
    _, first, of = np.unique(sums, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[of] != np.arange(len(vectors)))
    originals = first[of][copies]
    same = (vectors[copies] == vectors[originals]).all(axis=1)
    return copies[same], originals[same]


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

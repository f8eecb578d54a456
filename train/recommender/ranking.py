"""Stage 2: from candidates to the order of the answer, offline and served alike."""

import numpy as np

from train.core.ragged import Array
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries
from train.recommender.recommender import Recommender
from train.recommender.requests import is_popular
from train.rerankers.candidate_rows import candidate_rows


def rank_candidates(
    recommender: Recommender, queries: Queries, vectors: Array, candidates: Candidates, k: int
) -> tuple[Array, Array]:
    """Return the best `k` items of each request and their scores.

    Stage 1's order stays where the reranker did not earn its place, and for requests of which
    nothing is known.

    Args:
        recommender: with the reranker.
        queries: B requests in indices.
        vectors: float32 `[B, d]`.
        candidates: items and scores `[B, C]`.
        k: how many.

    Returns:
        items int32 `[B, min(k, C)]`, -1 padded, and scores float32, -inf padded.
    """
    scores = candidates.scores
    reranked = np.flatnonzero(~is_popular(queries))
    if recommender.reranks and len(reranked) == len(scores):
        scores = _scores(recommender, queries, vectors, candidates)
    elif recommender.reranks and len(reranked):
        scores = scores.copy()
        some = _take(queries, reranked), vectors[reranked], _rows(candidates, reranked)
        scores[reranked] = _scores(recommender, *some)
    best, scores = top_k(scores, k)
    items = np.take_along_axis(candidates.items, best, axis=1)
    return np.where(np.isfinite(scores), items, -1).astype(np.int32), scores


def _scores(
    recommender: Recommender, queries: Queries, vectors: Array, candidates: Candidates
) -> Array:
    """Return the reranker's scores, float32 `[B, C]`, -inf where there is no candidate."""
    present = candidates.items >= 0
    scores = np.full(present.shape, -np.inf, dtype=np.float32)
    assert recommender.reranker is not None
    rows = candidate_rows(recommender.described, queries, vectors, candidates)
    scores[present] = recommender.reranker.score(rows)
    return scores


def _take(queries: Queries, rows: Array) -> Queries:
    return Queries(
        user=queries.user[rows],
        history=queries.history.take(rows),
        exclude=queries.exclude.take(rows),
    )


def _rows(candidates: Candidates, rows: Array) -> Candidates:
    return Candidates(items=candidates.items[rows], scores=candidates.scores[rows])

"""Stage 2: from candidates to the order of the answer, offline and served alike."""

from dataclasses import replace

import numpy as np

from train.core.ragged import Array
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries
from train.recommender.recommender import Recommender
from train.recommender.requests import is_popular
from train.recommender.retrieval import scores_by_source
from train.rerankers.candidate_rows import CandidateRows, candidate_rows


def rank_candidates(
    recommender: Recommender, queries: Queries, vectors: Array, candidates: Candidates, k: int
) -> tuple[Array, Array]:
    """Return the best `k` items of each request and their scores.

    Stage 1's order stays where both stages are not served, and for requests of which nothing is
    known.

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
        some = queries.take(reranked), vectors[reranked], candidates.take(reranked)
        scores[reranked] = _scores(recommender, *some)
    best, scores = top_k(scores, k)
    items = np.take_along_axis(candidates.items, best, axis=1)
    return np.where(np.isfinite(scores), items, -1).astype(np.int32), scores


def described(
    recommender: Recommender, queries: Queries, vectors: Array, candidates: Candidates
) -> CandidateRows:
    """Return the rows that the reranker orders, and learns from; see `candidate_rows`."""
    if len(recommender.quotas) > 1 and candidates.by_source is None:
        by_source = scores_by_source(recommender, queries, vectors, candidates.items)
        candidates = replace(candidates, by_source=by_source)
    return candidate_rows(recommender.described, queries, vectors, candidates)


def _scores(
    recommender: Recommender, queries: Queries, vectors: Array, candidates: Candidates
) -> Array:
    """Return the reranker's scores, float32 `[B, C]`, -inf where there is no candidate."""
    present = candidates.items >= 0
    scores = np.full(present.shape, -np.inf, dtype=np.float32)
    assert recommender.reranker is not None
    rows = described(recommender, queries, vectors, candidates)
    scores[present] = recommender.reranker.score(rows)
    return scores

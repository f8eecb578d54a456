"""Stage 2: from candidates to the order of the answer."""

import numpy as np

from train.bundle.bundle import Bundle
from train.core.ragged import Array
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries
from train.recommender.retrieval import is_popular
from train.rerankers.features import Catalogue
from train.rerankers.pairs import pairs


class Ranking:
    """Stage 2: from candidates to the order of the answer.

    Keeps stage 1's order where the bundle's reranker did not earn its place, and for queries of
    which nothing is known.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._catalogue = Catalogue(
            item_vectors=bundle.directions,
            item_features=bundle.item_features,
            user_features=bundle.user_features,
            statistics=bundle.statistics,
        )

    def rank(
        self, queries: Queries, vectors: Array, candidates: Candidates, k: int
    ) -> tuple[Array, Array]:
        """Return the best `k` items of each query and their scores.

        Args:
            queries: B of them.
            vectors: float32 `[B, d]`.
            candidates: items and scores `[B, C]`.
            k: how many.

        Returns:
            items int32 `[B, min(k, C)]`, -1 padded, and scores float32, -inf padded.
        """
        scores = candidates.scores
        reranked = np.flatnonzero(~is_popular(queries))
        if self.bundle.reranks and len(reranked) == len(scores):
            scores = self._scores(queries, vectors, candidates)
        elif self.bundle.reranks and len(reranked):
            scores = scores.copy()
            scores[reranked] = self._scores(
                _take(queries, reranked), vectors[reranked], _rows(candidates, reranked)
            )
        best, scores = top_k(scores, k)
        items = np.take_along_axis(candidates.items, best, axis=1)
        return np.where(np.isfinite(scores), items, -1).astype(np.int32), scores

    def _scores(self, queries: Queries, vectors: Array, candidates: Candidates) -> Array:
        """Return the reranker's scores, float32 `[B, C]`, -inf where there is no candidate."""
        present = candidates.items >= 0
        scores = np.full(present.shape, -np.inf, dtype=np.float32)
        assert self.bundle.reranker is not None
        scores[present] = self.bundle.reranker.score(
            pairs(self._catalogue, queries, vectors, candidates)
        )
        return scores


def _take(queries: Queries, rows: Array) -> Queries:
    return Queries(
        user=queries.user[rows],
        history=queries.history.take(rows),
        exclude=queries.exclude.take(rows),
    )


def _rows(candidates: Candidates, rows: Array) -> Candidates:
    return Candidates(items=candidates.items[rows], scores=candidates.scores[rows])

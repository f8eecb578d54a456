"""Candidate rows: from stage 1's candidates to the rows of stage 2, in training and serving."""

from dataclasses import dataclass

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates, Queries
from train.rerankers.features import FeatureInputs, candidate_features


@dataclass(frozen=True)
class CandidateRows:
    """A row for each candidate of each query, in stage 1's order.

    Attributes:
        features: float32 `[R, F]` in Fortran order.
        query: the row of the query, ascending, int64 `[R]`.
        item: int32 `[R]`.
        user_vectors: of the queries, float32 `[B, d]`.
        importance: of how many candidates of its query a row was drawn, itself among them, float32
            `[R]`; None where none were left out.
    """

    features: Array
    query: Array
    item: Array
    user_vectors: Array
    importance: Array | None = None

    def take(self, rows: Array) -> "CandidateRows":
        """Return the rows of a mask, bool `[R]`; queries keep their numbers."""
        features = self.features.T.take(np.flatnonzero(rows), axis=1).T
        drawn = None if self.importance is None else self.importance[rows]
        return CandidateRows(features, self.query[rows], self.item[rows], self.user_vectors, drawn)


def log_importance(pairs: CandidateRows) -> Array:
    """Return what is added to the rows' scores in a softmax over drawn candidates, float32 `[R]`.

    A row that was drawn of n adds what n such rows would, so that the softmax is that over all
    candidates on average (Bengio, Senecal, 2008). Without it positives, all of which are kept, are
    too large a part of their queries.
    """
    drawn = pairs.importance
    return np.zeros(len(pairs.item), np.float32) if drawn is None else np.log(drawn)


def candidate_rows(
    catalogue: FeatureInputs, queries: Queries, user_vectors: Array, candidates: Candidates
) -> CandidateRows:
    """Describe the candidates as `candidate_features` does, rows of padding removed.

    `user_vectors`, float32 `[B, d]`, go along for rerankers that read them.
    """
    features = candidate_features(catalogue, queries, candidates)
    rows, width = candidates.items.shape
    query, item = np.repeat(np.arange(rows), width), candidates.items.reshape(-1)
    described = CandidateRows(features, query, item, user_vectors)
    real = item >= 0
    return described if real.all() else described.take(real)

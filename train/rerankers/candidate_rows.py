"""Candidate rows: from stage 1's candidates to the rows of stage 2, in training and serving."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates, Queries
from train.rerankers.features import FeatureInputs, candidate_features


@dataclass(frozen=True)
class CandidateRows:
    """A row for each candidate of each request, in stage 1's order.

    Attributes:
        features: float32 `[R, F]` in Fortran order, for they are computed and read by column.
        query: index of the request, ascending, int64 `[R]`.
        item: int32 `[R]`.
        user_vectors: of the requests, float32 `[B, d]`.
        importance: importance weight of a down-sampled negative, 1 over its sampling probability,
            and 1 for positives, float32 `[R]`; None where all rows were kept.
    """

    features: Array
    query: Array
    item: Array
    user_vectors: Array
    importance: Array | None = None

    def take(self, mask: Array) -> "CandidateRows":
        """Return the rows of a mask, bool `[R]`; requests keep their numbers."""
        # Transposed, `take` reads and writes column by column, as they lie in memory.
        features = self.features.T.take(np.flatnonzero(mask), axis=1).T
        importance = None if self.importance is None else self.importance[mask]
        return CandidateRows(
            features, self.query[mask], self.item[mask], self.user_vectors, importance
        )


def joined(parts: Sequence[CandidateRows]) -> CandidateRows:
    """Return the rows of several blocks of requests, one after another."""
    counts = [len(part.user_vectors) for part in parts]
    starts = np.cumsum([0, *counts[:-1]])
    weights = [
        np.ones(len(part.item), np.float32) if part.importance is None else part.importance
        for part in parts
    ]
    return CandidateRows(
        # Transposed, as they lie in memory.
        features=np.concatenate([part.features.T for part in parts], axis=1).T,
        query=np.concatenate([part.query + at for part, at in zip(parts, starts, strict=True)]),
        item=np.concatenate([part.item for part in parts]),
        user_vectors=np.concatenate([part.user_vectors for part in parts]),
        importance=None
        if all(part.importance is None for part in parts)
        else np.concatenate(weights),
    )


def log_importance(rows: CandidateRows) -> Array:
    """Return the log importance weight that corrects each row's score in a softmax, float32 `[R]`.

    With it, the sum over down-sampled candidates is on average that over all of them (sampled
    softmax; Bengio, Senecal, 2008). Without it the positives, all of which are kept, would be too
    large a part of their requests.
    """
    importance = rows.importance
    return np.zeros(len(rows.item), np.float32) if importance is None else np.log(importance)


def candidate_rows(
    inputs: FeatureInputs, queries: Queries, user_vectors: Array, candidates: Candidates
) -> CandidateRows:
    """Describe the candidates as `candidate_features` does, rows of padding removed.

    Args:
        inputs: the tables that features are computed from.
        queries: the requests, `B` of them.
        user_vectors: of the requests, for rerankers that read them, float32 `[B, d]`.
        candidates: of each request, `[B, C]`.
    """
    features = candidate_features(inputs, queries, candidates)
    requests, width = candidates.items.shape
    query, item = np.repeat(np.arange(requests), width), candidates.items.reshape(-1)
    rows = CandidateRows(features, query, item, user_vectors)
    present = item >= 0
    return rows if present.all() else rows.take(present)

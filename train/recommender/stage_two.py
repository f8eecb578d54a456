"""Fitting stage 2: the reranker learns which of stage 1's candidates the holdout's users took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows, candidate_rows
from train.rerankers.cross_validation import cross_fit, earns
from train.rerankers.features import feature_names


def training_rows(recommender: Recommender, holdout: Holdout) -> tuple[CandidateRows, Array]:
    """Return the candidate rows of the holdout's users and whether each was taken in the holdout.

    Candidates and features know only the recommender's snapshot, so nothing of the holdout, from
    which the labels come, and nothing of the test can leak into them.
    """
    queries = of_known_users(recommender, holdout.users)
    vectors = recommender.user_vectors[holdout.users]
    counts = np.full(len(vectors), recommender.candidates)
    found = find_candidates(recommender, queries, vectors, counts)
    rows = candidate_rows(recommender.described, queries, vectors, found)
    return rows, taken(rows, holdout.relevant, len(recommender.items))


def taken(rows: CandidateRows, relevant: Ragged, n_items: int) -> Array:
    """Return 1 where a row's item is relevant to its query, else 0, float32 `[R]`."""
    wanted = relevant.rows * n_items + relevant.values
    return np.isin(rows.query * n_items + rows.item, wanted).astype(np.float32)


MIN_GROUPS = 20


@dataclass(frozen=True)
class StageTwo:
    """A fitted reranker, if there was enough to learn from, and whether it earned its place.

    Attributes:
        facts: `name`, `earned`, and what `rerankers.earns` measured or the `reason` for none.
    """

    reranker: Reranker | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """What a reranker learns from: the candidates of the window's users.

    Attributes:
        pairs: rows, in stage 1's order.
        labels: 1 where a row's item was taken in the window, float32 `[R]`.
        item_vectors: float32 `[I, d]`.
        names: of the features.
        relevant: all that each user took in the window.
    """

    pairs: CandidateRows
    labels: Array
    item_vectors: Array
    names: tuple[str, ...]
    relevant: Ragged

    @property
    def given(self) -> tuple[CandidateRows, Array, Array, tuple[str, ...]]:
        """Return what a reranker is fitted to, as `RerankerSettings.fit` takes it."""
        return self.pairs, self.labels, self.item_vectors, self.names


def learned(recommender: Recommender, holdout: Holdout) -> Learned:
    """Return the training set of a reranker over the recommender's candidates.

    Raises:
        TooFew: too few users took one of their candidates.
    """
    rows, labels = training_rows(recommender, holdout)
    groups = len(np.unique(rows.query[labels > 0]))
    if groups < MIN_GROUPS:
        raise TooFew(
            f"{groups} of {len(holdout.users)} users of the validation window took one of their "
            f"{recommender.candidates} candidates in it, and a reranker needs {MIN_GROUPS}; widen "
            "the window (split), or raise candidates"
        )
    names = feature_names(recommender.described)
    return Learned(rows, labels, recommender.item_vectors, names, holdout.relevant)


class TooFew(ValueError):
    """There is too little to learn from."""


def fit_reranker(
    settings: RerankerSettings,
    recommender: Recommender,
    holdout: Holdout,
    seed: int,
    threads: int,
) -> StageTwo:
    """Fit on the holdout's users; judge on out-of-fold scores of the same users."""
    try:
        rows = learned(recommender, holdout)
    except TooFew as error:
        return StageTwo(None, {"earned": False, "reason": str(error)})
    scores = cross_fit(settings, *rows.given, seed=seed, threads=threads)
    judged = earns(rows.pairs, rows.labels, scores, holdout.relevant, seed=seed)
    fitted = settings.fit(*rows.given, seed, threads)
    return StageTwo(fitted, {"name": fitted.name, **judged})

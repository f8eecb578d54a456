"""Fitting stage 2: a reranker learns which of stage 1's candidates users interacted with."""

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
from train.rerankers.training_set import TrainingSet

# With fewer, each fold of the cross-validation has less than five, and NDCG is mostly noise.
MIN_GROUPS = 20


@dataclass(frozen=True)
class StageTwo:
    """A fitted reranker, if there was enough to learn from, and whether it earned its place.

    Attributes:
        facts: `name`, `earned`, and what `cross_validation.earns` measured or the `reason` for
            none.
    """

    reranker: Reranker | None
    facts: Mapping[str, Any]


class TooFewError(ValueError):
    """Too few users interacted with one of their candidates to fit a reranker."""


def training_set(recommender: Recommender, holdout: Holdout) -> TrainingSet:
    """Return the holdout's users' candidates, labelled by their interactions in the holdout.

    Candidates and features know only the recommender's snapshot, so nothing of the holdout, from
    which the labels come, and nothing of the test can leak into them.
    """
    requests = of_known_users(recommender, holdout.users)
    vectors = recommender.user_vectors[holdout.users]
    counts = np.full(len(vectors), recommender.candidates)
    candidates = find_candidates(recommender, requests, vectors, counts)
    rows = candidate_rows(recommender.described, requests, vectors, candidates)
    return TrainingSet(
        rows=rows,
        labels=labels_of(rows, holdout.relevant, len(recommender.items)),
        item_vectors=recommender.item_vectors,
        feature_names=feature_names(recommender.described),
        ground_truth=holdout.relevant,
    )


def labels_of(rows: CandidateRows, ground_truth: Ragged, n_items: int) -> Array:
    """Return 1 where a row's item is in its request's ground truth, else 0, float32 `[R]`."""
    positives = ground_truth.rows * n_items + ground_truth.values
    return np.isin(rows.query * n_items + rows.item, positives).astype(np.float32)


def sufficient_training_set(recommender: Recommender, holdout: Holdout) -> TrainingSet:
    """Return the `training_set`, checked to have enough requests with a positive.

    Raises:
        TooFewError: too few users interacted with one of their candidates.
    """
    training = training_set(recommender, holdout)
    groups = len(np.unique(training.rows.query[training.labels > 0]))
    if groups < MIN_GROUPS:
        raise TooFewError(
            f"{groups} of {len(holdout.users)} users of the validation window took one of their "
            f"{recommender.candidates} candidates in it, and a reranker needs {MIN_GROUPS}; widen "
            "the window (split), or raise candidates"
        )
    return training


def fit_reranker(
    settings: RerankerSettings,
    recommender: Recommender,
    holdout: Holdout,
    seed: int,
    threads: int,
) -> StageTwo:
    """Fit on the holdout's users; judge on out-of-fold scores of the same users."""
    try:
        training = sufficient_training_set(recommender, holdout)
    except TooFewError as error:
        return StageTwo(None, {"earned": False, "reason": str(error)})
    scores = cross_fit(settings, training, seed=seed, threads=threads)
    judged = earns(training, scores, seed=seed)
    fitted = settings.fit(training, seed, threads)
    return StageTwo(fitted, {"name": fitted.name, **judged})

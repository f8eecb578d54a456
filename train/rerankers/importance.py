"""Which features a reranker relies on: its own measure, or what it loses when one is shuffled."""

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from train.core.ragged import Array
from train.metrics.ranking import per_user
from train.rerankers.base import Reranker
from train.rerankers.cross_validation import ranked
from train.rerankers.training_set import TrainingSet

# Requests that shuffled features are scored for; the mean loss of NDCG is stable by then.
REQUESTS = 200
CUT = 10


@runtime_checkable
class Measures(Protocol):
    """A reranker with a measure of its own.

    Attributes:
        measure: what the figures are, in words.
    """

    measure: str

    def importance(self, training: TrainingSet) -> dict[str, float]:
        """Return a figure for each feature that it reads."""


def importance_of(reranker: Reranker, training: TrainingSet, seed: int) -> dict[str, Any]:
    """Return what a reranker has learned to rely on, the strongest feature first.

    Args:
        reranker: fitted.
        training: the rows that it was fitted on.
        seed: of the shuffles, for a reranker without a measure of its own.

    Returns:
        `measure` in words, and `features`: a figure by name.
    """
    if isinstance(reranker, Measures):
        measure, figures = reranker.measure, reranker.importance(training)
    else:
        measure = f"NDCG@{CUT} lost on its own requests when the feature is shuffled"
        figures = permutation_importance(reranker, training, seed)
    order = sorted(figures, key=lambda name: (-abs(figures[name]), name))
    return {"measure": measure, "features": {name: round(figures[name], 6) for name in order}}


def permutation_importance(
    reranker: Reranker, training: TrainingSet, seed: int
) -> dict[str, float]:
    """Return the mean NDCG that is lost when one feature is shuffled over rows (Breiman, 2001)."""
    training = training.take(training.rows.query < min(REQUESTS, training.requests_judged))
    rng, whole = np.random.default_rng(seed), _ndcg(reranker, training, training.rows.features)
    figures = {}
    for column, name in enumerate(training.feature_names):
        features = training.rows.features.copy(order="F")
        features[:, column] = rng.permutation(features[:, column])
        figures[name] = whole - _ndcg(reranker, training, features)
    return figures


def _ndcg(reranker: Reranker, training: TrainingSet, features: Array) -> float:
    rows = replace(training.rows, features=features)
    best = ranked(rows, reranker.score(rows), CUT)
    count = min(REQUESTS, training.requests_judged)
    return float(np.nanmean(per_user(best, training.relevant, CUT)["ndcg"][:count]))

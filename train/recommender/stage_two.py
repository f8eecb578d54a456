"""Fitting stage 2: a reranker learns which of stage 1's candidates users interacted with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.data.snapshot import Holdout
from train.metrics.ranking import per_user
from train.recommender.gate import SHAPES, System, chosen, single_sources
from train.recommender.recommender import BOTH_STAGES, STAGE_1, Recommender
from train.recommender.training_rows import Bounds, TooFewError, divided, sufficient_training_set
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.cross_validation import cross_fit, earns, ranked
from train.rerankers.importance import importance_of
from train.rerankers.training_set import TrainingSet

# Of the NDCG that systems are chosen by.
CUT = 10


@dataclass(frozen=True)
class StageTwo:
    """A fitted reranker, if there was enough to learn from, and whether it earned its place.

    Attributes:
        facts: `name`, `earned`, and what `cross_validation.earns` measured or the `reason` for
            none.
        gate: `served` (see `Recommender`), and with it `k`, `users` and the `ladder` that it was
            chosen from; see `gate.chosen`.
        importance: which features the reranker relies on; see `rerankers.importance`.
    """

    reranker: Reranker | None
    facts: Mapping[str, Any]
    gate: Mapping[str, Any]
    importance: Mapping[str, Any] = field(default_factory=dict)


def fit_stage_two(
    kinds: Sequence[RerankerSettings],
    recommender: Recommender,
    holdout: Holdout,
    seed: int,
    threads: int,
) -> StageTwo:
    """Fit a reranker of one of the kinds, and choose what is served.

    Rerankers are judged by out-of-fold scores of the users that they learn from. Where a simpler
    system is served, the best of the rerankers is fitted and measured all the same. Of many users
    some thousands are judged by; see `training_rows`.

    Args:
        kinds: settings of rerankers, the simplest first; none leaves stage 1 alone.
        recommender: stage 1.
        holdout: the users, and what they interact with.
        seed: of the fits and of the bootstrap.
        threads: of the processor.
    """
    bounds = Bounds.of(kinds)
    try:
        training = sufficient_training_set(recommender, holdout, bounds)
    except TooFewError as error:
        return StageTwo(None, {"earned": False, "reason": str(error)}, {"served": STAGE_1})
    scores = [cross_fit(kind, training, seed=seed, threads=threads) for kind in kinds]
    rerankers = [
        System(kind.name, judged(training, score), len(SHAPES) + 1 + place)
        for place, (kind, score) in enumerate(zip(kinds, scores, strict=True))
    ]
    several = len(recommender.quotas) > 1
    stage_1 = System(STAGE_1, judged(training), len(SHAPES))
    singles = (
        single_sources(recommender, divided(holdout, bounds.judged)[0], CUT) if several else []
    )
    served, ladder = chosen([*singles, stage_1, *rerankers])
    gate = {"k": CUT, "users": int((~np.isnan(stage_1.ndcg)).sum()), "ladder": ladder}
    if not kinds:
        facts = {"earned": False, "reason": "the configuration asks for none"}
        return StageTwo(None, facts, {"served": served.name, **gate})
    second = served if served in rerankers else chosen(rerankers)[0]
    place = rerankers.index(second)
    facts = {"name": second.name, **earns(training, scores[place], CUT, seed)}
    facts["earned"] = served is second
    gate["served"] = BOTH_STAGES if served is second else served.name
    reranker = kinds[place].fit(training, seed, threads)
    return StageTwo(reranker, facts, gate, importance_of(reranker, training, seed))


def judged(training: TrainingSet, scores: Array | None = None) -> Array:
    """Return the NDCG by scores `[R]`, or in stage 1's order, of the requests judged, float64."""
    # Equal scores keep stage 1's order.
    scores = np.zeros(len(training), dtype=np.float32) if scores is None else scores
    ndcg = per_user(ranked(training.rows, scores, CUT), training.relevant, CUT)["ndcg"]
    return ndcg[: training.requests_judged]

"""Fitting stage 2: a reranker learns which of stage 1's candidates users interacted with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.metrics.ranking import per_user
from train.recommender.gate import SHAPES, System, chosen, single_sources
from train.recommender.ranking import described
from train.recommender.recommender import BOTH_STAGES, STAGE_1, Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.cross_validation import cross_fit, earns, ranked
from train.rerankers.features import feature_names
from train.rerankers.training_set import TrainingSet

# With fewer, each fold of the cross-validation has less than five, and NDCG is mostly noise.
MIN_GROUPS = 20
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
    """

    reranker: Reranker | None
    facts: Mapping[str, Any]
    gate: Mapping[str, Any]


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
    rows = described(recommender, requests, vectors, candidates)
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


def fit_stage_two(
    kinds: Sequence[RerankerSettings],
    recommender: Recommender,
    holdout: Holdout,
    seed: int,
    threads: int,
) -> StageTwo:
    """Fit a reranker of one of the kinds, and choose what is served.

    Rerankers are judged by out-of-fold scores of the users that they learn from. Where a simpler
    system is served, the best of the rerankers is fitted and measured all the same.

    Args:
        kinds: settings of rerankers, the simplest first; none leaves stage 1 alone.
        recommender: stage 1.
        holdout: the users, and what they interact with.
        seed: of the fits and of the bootstrap.
        threads: of the processor.
    """
    try:
        training = sufficient_training_set(recommender, holdout)
    except TooFewError as error:
        return StageTwo(None, {"earned": False, "reason": str(error)}, {"served": STAGE_1})
    scores = [cross_fit(kind, training, seed=seed, threads=threads) for kind in kinds]
    rerankers = [
        System(kind.name, judged(training, score), len(SHAPES) + 1 + place)
        for place, (kind, score) in enumerate(zip(kinds, scores, strict=True))
    ]
    several = len(recommender.quotas) > 1
    stage_1 = System(STAGE_1, judged(training), len(SHAPES))
    singles = single_sources(recommender, holdout, CUT) if several else []
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
    return StageTwo(kinds[place].fit(training, seed, threads), facts, gate)


def judged(training: TrainingSet, scores: Array | None = None) -> Array:
    """Return each request's NDCG by scores `[R]`, or in stage 1's order, float64 `[B]`."""
    # Equal scores keep stage 1's order.
    scores = np.zeros(len(training), dtype=np.float32) if scores is None else scores
    return per_user(ranked(training.rows, scores, CUT), training.relevant, CUT)["ndcg"]

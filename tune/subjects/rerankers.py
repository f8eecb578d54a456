"""Rerankers: a trial fits them out of fold to the candidates of the run's own stage 1."""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded
from train.data.splits.base import Folds
from train.picks import pick
from train.recommender.gate import System, chosen
from train.recommender.stage_two import judged
from train.recommender.training_rows import sufficient_training_set
from train.rerankers.base import RerankerSettings
from train.rerankers.cross_validation import cross_fit
from train.rerankers.training_set import TrainingSet
from train.steps import merge_sources, reranker_holdout, selected, stage_one
from train.trainer.checkpoint import State
from train.trainer.job import Worker
from tune.subjects.base import Subject, Values, milliseconds, without_baselines


def _training_set(run: Run, data: Encoded, folds: Folds, home: str) -> TrainingSet:
    """Return the reranker's training set: the labelled candidates of the run's own stage 1."""
    model, holdout = selected(home, run, data, folds)
    users = reranker_holdout(run, holdout)
    run = pick(without_baselines(run), users)
    recommender = stage_one(run, data, holdout.known, model, run.sources)
    recommender, _ = merge_sources(run, recommender, holdout)
    return sufficient_training_set(recommender, users)


def _measure(
    training: TrainingSet, run: Run, asked: Collection[str], worker: Worker, _state: State | None
) -> tuple[Values, Any]:
    kind, ndcg = _best_kind(training, run)
    values = {"ndcg": float(np.nanmean(ndcg)), "milliseconds": 0.0}
    if "milliseconds" in asked and kind is not None:
        values["milliseconds"] = _scoring_time(kind, training, run.seed)
    return values, None


def _users(training: TrainingSet, run: Run, _kept: Any) -> Array:
    """Return the NDCG@10 of each user's candidates, ordered by out-of-fold scores, `[V]`."""
    return _best_kind(training, run)[1]


def _best_kind(training: TrainingSet, run: Run) -> tuple[RerankerSettings | None, Array]:
    """Return the reranker that the run would choose of its kinds, and its `[V]` NDCG@10.

    Without a reranker it is None, and the order is that of stage 1.
    """
    kinds, threads = run.rerankers(), torch.get_num_threads()
    if not kinds:
        return None, judged(training)
    scores = [cross_fit(kind, training, seed=run.seed, threads=threads) for kind in kinds]
    systems = [
        System(kind.name, judged(training, of), place)
        for place, (kind, of) in enumerate(zip(kinds, scores, strict=True))
    ]
    best, _ = chosen(systems)
    return kinds[best.simple], best.ndcg


def _scoring_time(
    kind: RerankerSettings, training: TrainingSet, seed: int, requests: int = 50
) -> float:
    """Return the median milliseconds in which one user's candidates are scored."""
    model = kind.fit(training, seed, torch.get_num_threads())
    rows = training.rows
    queries = range(min(requests, len(rows.user_vectors)))
    return milliseconds(model.score, [rows.take(rows.query == query) for query in queries])


RERANKER = Subject(
    name="reranker",
    keys=("reranker",),
    fixed=(),
    metrics={"ndcg": "max", "milliseconds": "min"},
    default=("ndcg",),
    prepare=_training_set,
    measure=_measure,
    users=_users,
)

"""Towers, their loss and their training: a trial trains them, epoch by epoch."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded
from train.data.splits.base import Folds
from train.steps import select_holdout, tower_job
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.towers.model import TwoTowerModel
from train.trainer.checkpoint import State
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.validation import validation_scores
from tune.subjects.base import Subject, Values, milliseconds


def _job(run: Run, data: Encoded, folds: Folds, _home: str) -> Job:
    """Return the training job of the run's towers: fitted up to t1, validated on `[t1, t2)`."""
    holdout = select_holdout(run, data, folds)
    return tower_job(run, holdout.known, holdout)


def _measure(
    job: Job, run: Run, asked: Collection[str], worker: Worker, state: State | None
) -> tuple[Values, Any]:
    one = varied(job, run)
    costs = _costs(one, asked)

    def report(row: Mapping[str, Any], now: State | None) -> None:
        assert now is not None, "a trial is its own rank 0"
        # A run keeps the weights of its best epoch, so that is what counts.
        best = {"best_epoch": now["best"]["epoch"], "ndcg": now["best"]["ndcg"]}
        where = {"epoch": row["epoch"], "of": one.schedule.epochs}
        worker.report({**where, **best, **costs}, now)

    best = train(one, dataclasses.replace(worker, report=report), state)["best"]
    assert best["ndcg"] is not None, "every trial validates"
    return {"ndcg": best["ndcg"], **costs}, best["weights"]


def varied(job: Job, run: Run) -> Job:
    """Return the job with the towers, the loss and the training of a run, for one process.

    A run with several workers takes as many batches in each step; here they are one batch.
    """
    settled = run.train.settled(run.tower.count_examples(job.interactions, run.train.examples))
    assert settled.batch_size is not None, "settled"
    batch = settled.batch_size * max(1, run.train.workers)
    training = settled.model_copy(update={"batch_size": batch})
    parts: dict[str, Any] = {"tower": run.tower, "loss": run.loss, "training": training}
    return dataclasses.replace(job, seed=run.seed, **parts)


def _costs(job: Job, asked: Collection[str]) -> Values:
    """Return the latency and memory of towers, which training does not change."""
    if not {"milliseconds", "megabytes"} & set(asked):
        return {}
    model = job.tower.build(job.inputs).eval()
    parameters = sum(value.numel() * value.element_size() for value in model.parameters())
    vectors = encode_catalogue(model)
    costs = {"milliseconds": _request(model, vectors, job)}
    costs["megabytes"] = round((parameters + vectors.nbytes) / 1e6, 3)
    return {name: value for name, value in costs.items() if name in asked}


def _request(model: TwoTowerModel, vectors: Array, job: Job, requests: int = 50) -> float:
    """Return the median milliseconds in which one user is encoded and the catalogue ranked."""
    validation = job.validation
    assert validation is not None

    def ask(row: int) -> None:
        history = validation.histories.take(np.array([row]))
        user = encode_users(model, validation.users[row : row + 1], history)
        rank_by_model(model, user, vectors, validation.catalogue, history, 10)

    return milliseconds(ask, range(min(requests, len(validation.users))))


def _users(job: Job, run: Run, weights: Any) -> Array:
    one = varied(job, run)
    model = run.tower.build(one.inputs)
    model.load_state_dict(weights)
    return validation_scores(model.eval(), one)


TOWERS = Subject(
    name="towers",
    keys=("tower", "loss", "train"),
    fixed=("train.workers", "train.gpu", "train.threads", "train.max_failures"),
    metrics={"ndcg": "max", "milliseconds": "min", "megabytes": "min"},
    default=("ndcg",),
    prepare=_job,
    measure=_measure,
    users=_users,
)

"""Subjects of a sweep: towers, a reranker or an index, and how a trial measures its variation.

The stages before the varied one are computed once and shared by all trials; see `SUBJECTS`.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded
from train.data.splits.base import Folds
from train.index.build import build_vector_index
from train.metrics.ranking import per_user
from train.recommender.training_rows import sufficient_training_set
from train.rerankers.base import RerankerSettings
from train.rerankers.cross_validation import cross_fit, ranked
from train.rerankers.training_set import TrainingSet
from train.steps import reranker_holdout, select_holdout, selected, tower_job
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.towers.model import TwoTowerModel
from train.trainer.checkpoint import State
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.validation import validation_scores

Values = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """The part of a run that a sweep varies.

    Attributes:
        name: its key in `SUBJECTS`.
        keys: tables of a run that a space may have keys of.
        fixed: keys within them that change no metric of a trial.
        metrics: that a trial can report; "max" where more is better.
        default: metrics that trials are compared by, unless a sweep names others.
        prepare: computes the data shared by all trials from a run, its data and a folder for
            checkpoints.
        measure: measures a run; see `Measure`.
        users: computes the NDCG@10 of each validation user, `[V]`, of a run from the values that
            its trial kept; None where it has no users.
    """

    name: str
    keys: tuple[str, ...]
    fixed: tuple[str, ...]
    metrics: Mapping[str, Literal["max", "min"]]
    default: tuple[str, ...]
    prepare: Callable[[Run, Encoded, Folds, str], Any]
    measure: "Measure"
    users: Callable[[Any, Run, Any], Array] | None = None


Measure = Callable[[Any, Run, Collection[str], Worker, State | None], tuple[Values, Any]]
"""From the shared data, a run, the requested metrics, the worker that computes and reports each
epoch, and the state of an interrupted trial: the values of the metrics, and values to keep."""


def _tower_job(run: Run, data: Encoded, folds: Folds, _home: str) -> Job:
    """Return the training job of the run's towers: fitted up to t1, validated on `[t1, t2)`."""
    holdout = select_holdout(run, data, folds)
    return tower_job(run, holdout.known, holdout)


def _towers(
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

    return _milliseconds(ask, range(min(requests, len(validation.users))))


def _milliseconds(call: Callable[[Any], object], requests: Iterable[Any]) -> float:
    """Return the median milliseconds that a call takes over requests."""
    seconds = []
    for request in requests:
        begun = time.perf_counter()
        call(request)
        seconds.append(time.perf_counter() - begun)
    return round(1e3 * float(np.median(seconds)), 3)


def _tower_users(job: Job, run: Run, weights: Any) -> Array:
    one = varied(job, run)
    model = run.tower.build(one.inputs)
    model.load_state_dict(weights)
    return validation_scores(model.eval(), one)


def _training_set(run: Run, data: Encoded, folds: Folds, home: str) -> TrainingSet:
    """Return the reranker's training set: the labelled candidates of the run's own towers."""
    recommender, holdout = selected(home, run, data, folds)
    return sufficient_training_set(recommender, reranker_holdout(run, holdout))


def _reranker(
    training: TrainingSet, run: Run, asked: Collection[str], worker: Worker, _state: State | None
) -> tuple[Values, Any]:
    ndcg = _reranker_users(training, run, None)
    values = {"ndcg": float(np.nanmean(ndcg)), "milliseconds": 0.0}
    if "milliseconds" in asked and isinstance(run.reranker, RerankerSettings):
        values["milliseconds"] = _scoring_time(training, run)
    return values, None


def _reranker_users(training: TrainingSet, run: Run, _kept: Any) -> Array:
    """Return the NDCG@10 of each user's candidates, ordered by out-of-fold scores, `[V]`."""
    threads = torch.get_num_threads()
    scores = np.zeros(len(training), dtype=np.float32)  # all the same: stage 1's own order
    if isinstance(run.reranker, RerankerSettings):
        scores = cross_fit(run.reranker, training, seed=run.seed, threads=threads)
    return per_user(ranked(training.rows, scores, 10), training.relevant, 10)["ndcg"]


def _scoring_time(training: TrainingSet, run: Run, requests: int = 50) -> float:
    """Return the median milliseconds in which one user's candidates are scored."""
    assert isinstance(run.reranker, RerankerSettings)
    model = run.reranker.fit(training, run.seed, torch.get_num_threads())
    rows = training.rows
    queries = range(min(requests, len(rows.user_vectors)))
    return _milliseconds(model.score, [rows.take(rows.query == query) for query in queries])


def _vectors(run: Run, data: Encoded, folds: Folds, home: str) -> tuple[Array, Array, Array]:
    """Return queries `[Q, d]`, item vectors `[I, d]` and the catalogue `[I]` of the towers."""
    recommender, holdout = selected(home, run, data, folds)
    if not recommender.index.tunable:
        raise ValueError(
            f"tower {run.tower.model_dump()['name']!r} scores every pair and has no index to tune; "
            "choose a tower whose score is dot, cosine or euclidean"
        )
    queries = recommender.user_vectors[holdout.users]
    return queries, recommender.item_vectors, recommender.catalogue


def _index(
    shared: tuple[Array, Array, Array], run: Run, asked: Collection[str], *_: Any
) -> tuple[Values, Any]:
    queries, vectors, catalogue = shared
    found = build_vector_index(run.index, vectors, catalogue, run.seed, queries).report
    exact = found["used"] == "exact"
    recall = 1.0 if exact else found["recall"]
    return {"recall": recall, "microseconds": found["exact_us" if exact else "hnsw_us"]}, None


ALL = (
    Subject(
        name="towers",
        keys=("tower", "loss", "train"),
        fixed=("train.workers", "train.gpu", "train.threads", "train.max_failures"),
        metrics={"ndcg": "max", "milliseconds": "min", "megabytes": "min"},
        default=("ndcg",),
        prepare=_tower_job,
        measure=_towers,
        users=_tower_users,
    ),
    Subject(
        name="reranker",
        keys=("reranker",),
        fixed=(),
        metrics={"ndcg": "max", "milliseconds": "min"},
        default=("ndcg",),
        prepare=_training_set,
        measure=_reranker,
        users=_reranker_users,
    ),
    Subject(
        name="index",
        keys=("index",),
        fixed=("index.sample",),
        metrics={"recall": "max", "microseconds": "min"},
        default=("recall", "microseconds"),
        prepare=_vectors,
        measure=_index,
    ),
)
SUBJECTS: dict[str, Subject] = {one.name: one for one in ALL}


def subject_of(keys: Collection[str]) -> str:
    """Return the name of the subject that a space with these keys varies.

    Raises:
        ValueError: the keys belong to several of them.
    """
    tables = {key.split(".")[0] for key in keys}
    subjects = sorted(name for name, one in SUBJECTS.items() if tables & set(one.keys))
    if len(subjects) > 1:
        raise ValueError(
            f"space: a sweep varies one of {', '.join(SUBJECTS)}, and this has keys of "
            f"{' and '.join(subjects)}; make a sweep of each, one after the other"
        )
    return subjects[0] if subjects else "towers"

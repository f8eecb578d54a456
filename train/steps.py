"""Steps that runs and sweeps share: prepare, snapshots, towers, both stages."""

import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster import storage
from cluster.cpus import available_cpus
from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded, encode
from train.data.snapshot import (
    Snapshot,
    Window,
    like_test,
    recent_windows,
    snapshot,
    some_users,
    validation_window,
)
from train.data.splits import LEFT_OUT, TRAIN, Folds
from train.index.vector_index import check_kind
from train.recommender.stages import MIN_GROUPS, StageOne, StageTwo, fit_reranker, stage_one
from train.rerankers.base import RerankerSettings
from train.rerankers.features import names_of
from train.towers.base import TwoTowerModel
from train.towers.encode import align, encode_catalogue, encode_users
from train.tracking.base import Tracker
from train.trainer.job import Job, Validation
from train.trainer.workers import train_here, train_on_ray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """Trained towers, and how that went: a row of `curve` an epoch, `epoch` the best one."""

    model: TwoTowerModel
    epoch: int
    curve: list[dict[str, Any]]


def prepare(run: Run) -> tuple[Encoded, Folds]:
    """Load, check, encode and split the run's data.

    Raises:
        ValueError: the data, or what the tower or a baseline cannot be fitted to.
    """
    tables = run.data.load()
    data = encode(tables)
    parts = run.train, run.tower, run.linear_score, *run.evaluation.baselines
    if any(getattr(part, "weighted", False) for part in parts):
        data.interactions.relative_weight()  # refuses here what would fail in training
    folds = run.split.folds(data.interactions, len(data.users), len(data.items))
    # Baselines are fitted last; what they refuse is refused before any tower is trained.
    item, features = data.interactions.item, data.item_features
    first, warm = (len(np.unique(item[of])) for of in (folds.fold == TRAIN, folds.before_test))
    run.tower.check(first, features)
    check_kind(run.index)
    for baseline in run.evaluation.baselines:
        baseline.check(warm, features)
    if isinstance(run.reranker, RerankerSettings):
        run.reranker.check(_feature_names(run, data))
    counts = np.bincount(folds.fold[folds.fold > LEFT_OUT], minlength=3)
    logger.info(
        "%s: %s interactions, %s users, %s items; train %s, validation %s, test %s",
        getattr(run.data, "name", "data"),
        *(f"{n:,}" for n in (len(data.interactions), len(data.users), len(data.items), *counts)),
    )
    return data, folds


def _feature_names(run: Run, data: Encoded) -> tuple[str, ...]:
    days = recent_windows(run.evaluation.recent_days)
    return names_of(data.item_features, data.user_features, days, run.linear_score.rank > 0)


def before_window(run: Run, data: Encoded, folds: Folds) -> tuple[Snapshot, Window]:
    """Return what was known before t1, and the users of the validation window that begins there."""
    before = _known(run, data, folds.fold == TRAIN, folds.t1)
    return before, validation_window(data, folds, before)


def later_snapshots(run: Run, data: Encoded, folds: Folds) -> dict[str, Snapshot]:
    """Return what the towers learn from that are measured, and those that are served."""
    later = {"refit": _known(run, data, folds.before_test, folds.t2)}
    if run.final_fit == "everything":
        everything = np.ones(len(data.interactions), dtype=bool)
        now = int(data.interactions.timestamp.max()) + 1
        later["final"] = _known(run, data, everything, now)
    return later


def _known(run: Run, data: Encoded, known: Array, as_of: int) -> Snapshot:
    options = run.evaluation.recent_days, run.catalogue == "all", run.linear_score
    return snapshot(data, known, as_of, *options)


def selected(home: str, run: Run, data: Encoded, folds: Folds) -> tuple[StageOne, Window]:
    """Train towers on what was before t1, stopped by the validation window, or read them.

    Args:
        home: of the run; the same one finds its checkpoints again.
        run: with the towers.
        data: as `prepare` gives it.
        folds: likewise.

    Returns:
        stage 1 with the towers, and the window's users.
    """
    before, window = before_window(run, data, folds)
    towers = fit_towers(home, run, {"select": before}, window, Tracker())
    return first_stage(run, before, towers["select"]), window


def reranker_window(run: Run, stage: StageOne, window: Window) -> Window:
    """Return whose candidates a reranker learns from: users like the test's, if there are some."""
    return like_test(window, stage.snapshot, run.split, MIN_GROUPS)


def second_stage(run: Run, data: Encoded, stage: StageOne, window: Window) -> StageTwo:
    """Fit the reranker of a run to the candidates of the window's users, if it has one."""
    if not isinstance(run.reranker, RerankerSettings):
        return StageTwo(None, {"earned": False, "reason": "the configuration asks for none"})
    window = reranker_window(run, stage, window)
    logger.info("rerank: candidates of %s users", f"{len(window.users):,}")
    threads = available_cpus()
    second = fit_reranker(run.reranker, data, stage, window, run.candidates, run.seed, threads)
    logger.info("rerank: %s", json.dumps(second.facts))
    return second


def first_stage(run: Run, known: Snapshot, towers: Fitted) -> StageOne:
    """Encode all users and items of a snapshot and index the items."""
    users = np.arange(len(known.histories))
    vectors = encode_users(towers.model, users, known.histories), encode_catalogue(towers.model)
    head = None if towers.model.head is None else towers.model.head.trained()
    return stage_one(known, vectors, run.index, run.seed, head, run.tower.added)


def on_ray(run: Run) -> bool:
    """Whether workers train the towers: those that are fitted at once are fitted here."""
    return run.train.workers > 0 and not run.tower.at_once


def fit_towers(
    home: str, run: Run, moments: dict[str, Snapshot], window: Window, tracker: Tracker
) -> dict[str, Fitted]:
    """Train the towers of every phase, or read those of phases that were finished before."""
    jobs = {
        phase: tower_job(run, known, window if phase == "select" else None)
        for phase, known in moments.items()
    }
    trained = train_on_ray if on_ray(run) else train_here
    states = trained(jobs, storage.join(home, "training"), tracker.epoch)
    for phase, state in states.items():
        tracker.curve(phase, state["curve"])
    return {phase: _fitted_towers(run, jobs[phase], state) for phase, state in states.items()}


def _fitted_towers(run: Run, job: Job, state: dict[str, Any]) -> Fitted:
    model = run.tower.build(job.inputs)
    model.load_state_dict(state["best"]["weights"])
    model.eval()
    return Fitted(model, state["best"]["epoch"], state["curve"])


def aligned(towers: Fitted, known: Snapshot, first: StageOne) -> Fitted:
    """Return towers turned onto those that the reranker learns from."""
    both = known.inputs.warm_items & first.snapshot.inputs.warm_items
    align(towers.model, first.item_vectors, both)
    return towers


def tower_job(run: Run, known: Snapshot, window: Window | None = None) -> Job:
    """Return what trains the run's towers on what was known.

    Args:
        run: with the towers, their loss and how they are trained.
        known: what they learn from.
        window: stops their training; without one there is no validation.
    """
    validation = None
    if window is not None:
        window = some_users(like_test(window, known, run.split), run.train.validation_users)
        histories = known.histories.take(window.users)
        validation = Validation(window.users, histories, window.relevant, known.catalogue)
    return Job(
        tower=run.tower,
        loss=run.loss,
        training=run.train,
        seed=run.seed,
        inputs=known.inputs,
        interactions=known.interactions,
        validation=validation,
    )

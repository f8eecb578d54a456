"""The driver of a run: towers on Ray Train, both stages, evaluation, bundle.

select   towers on what was before t1, stopped by the validation window [t1, t2)
refit    towers on what was before t2, for as many epochs, measured on the test
final    towers on everything, for serving (unless final_fit is before_test)
rerank   the reranker on the candidates that select's towers have for the window
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster import storage
from cluster.cpus import available_cpus
from cluster.session import connect, scaling
from train import bundle, evaluation_arrays, manifest
from train.candidates import names_of
from train.config import Run
from train.diagnostics import diagnose
from train.evaluate import evaluate_users
from train.features import Encoded, encode
from train.index import check_kind
from train.job import Job, Validation
from train.model import TwoTowerModel, align, encode_catalogue, encode_users, state_bytes
from train.page import write_page
from train.ragged import Array
from train.reranker import RerankerSettings
from train.snapshot import (
    Snapshot,
    Window,
    fingerprint,
    held_out_window,
    like_test,
    recent_windows,
    snapshot,
    some_users,
    validation_window,
)
from train.splits import LEFT_OUT, TRAIN, Folds
from train.tracking import Tracker
from train.two_stages import MIN_GROUPS, StageOne, StageTwo, fit_reranker, stage_one
from train.workers import train_here, train_on_ray

logger = logging.getLogger(__name__)

RUN = "run.json"


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


def fit(run: Run, address: str | None = None) -> str:
    """Run the whole line, reusing whatever this run already finished; return the bundle's place.

    Nothing is started before the data is checked, and nothing of the run is written before the
    workers are there. The MLflow store of `run.tracking` is reached before both.

    Args:
        run: what to do.
        address: of a Ray head; see `cluster.session.connect`.

    Raises:
        ValueError: the data, the number of workers, a run of the same name with another
            configuration, or a store of `run.tracking` that cannot be reached.
    """
    home = storage.join(storage.absolute(run.storage), run.name)
    data, folds = prepare(run)
    config = manifest.plain(run.table())
    for key in ("tracking", "page"):  # what is told of a run does not make it another one
        del config[key]
    identity = {"config": config, "data": fingerprint(data)}
    _check_name(home, identity)
    _warn_of_ignored(run)
    done = storage.join(home, "done.json")
    if storage.exists(done):
        place = storage.join(home, "bundles", json.loads(storage.read_bytes(done))["version"])
        logger.info("this run is complete; its bundle is %s", place)
        return place
    tracker = run.tracking.tracker(run.name, home)
    if _on_ray(run):
        connect(address)
        scaling(run.train.workers, run.train.gpu)
    storage.write_bytes(storage.join(home, RUN), json.dumps(identity, indent=2).encode())
    with tracker:
        tracker.begin(config)
        version = _write(home, run, data, *_fitted(home, run, data, folds, tracker))
        storage.write_bytes(done, json.dumps({"version": version}).encode())
        place = storage.join(home, "bundles", version)
        tracker.results(place)
        # Last: whatever plots fail at, the bundle is there.
        if run.page:
            page = write_page(place)
            tracker.report(page)
            logger.info("report: %s", page)
    return place


def _fitted(
    home: str, run: Run, data: Encoded, folds: Folds, tracker: Tracker
) -> tuple[StageOne, StageTwo, Fitted, dict[str, Any], dict[str, Array]]:
    """Return what is served (both stages and the towers), facts for the manifest, and the test."""
    before, window = before_window(run, data, folds)
    moments = {"select": before, **_later(run, data, folds)}
    towers = _towers(home, run, moments, window, tracker)
    first = _stage(run, before, towers["select"])
    second = _second(run, data, first, window)
    stages = {
        phase: _stage(run, moments[phase], _aligned(towers[phase], moments[phase], first))
        for phase in moments
        if phase != "select"
    }
    test = held_out_window(data, folds)
    measured = evaluate_users(
        data, stages["refit"], second.reranker, test, run.candidates, run.evaluation, run.seed
    )
    shown = measured.arrays() | diagnose(stages["refit"], test, run.candidates, run.seed)
    training = {"epochs": towers["select"].epoch, "select": towers["select"].curve}
    facts = {"metrics": measured.report, "training": training}
    served = list(stages)[-1]
    return stages[served], second, towers[served], facts, shown


def before_window(run: Run, data: Encoded, folds: Folds) -> tuple[Snapshot, Window]:
    """Return what was known before t1, and the users of the validation window that begins there."""
    before = _known(run, data, folds.fold == TRAIN, folds.t1)
    return before, validation_window(data, folds, before)


def _later(run: Run, data: Encoded, folds: Folds) -> dict[str, Snapshot]:
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
    towers = _towers(home, run, {"select": before}, window, Tracker())
    return _stage(run, before, towers["select"]), window


def reranker_window(run: Run, stage: StageOne, window: Window) -> Window:
    """Return whose candidates a reranker learns from: users like the test's, if there are some."""
    return like_test(window, stage.snapshot, run.split, MIN_GROUPS)


def _second(run: Run, data: Encoded, stage: StageOne, window: Window) -> StageTwo:
    if not isinstance(run.reranker, RerankerSettings):
        return StageTwo(None, {"earned": False, "reason": "the configuration asks for none"})
    window = reranker_window(run, stage, window)
    logger.info("rerank: candidates of %s users", f"{len(window.users):,}")
    threads = available_cpus()
    second = fit_reranker(run.reranker, data, stage, window, run.candidates, run.seed, threads)
    logger.info("rerank: %s", json.dumps(second.facts))
    return second


def _stage(run: Run, known: Snapshot, towers: Fitted) -> StageOne:
    users = np.arange(len(known.histories))
    vectors = encode_users(towers.model, users, known.histories), encode_catalogue(towers.model)
    head = None if towers.model.head is None else towers.model.head.trained()
    return stage_one(known, vectors, run.index, run.seed, head, run.tower.added)


def _write(
    home: str,
    run: Run,
    data: Encoded,
    stage: StageOne,
    second: StageTwo,
    towers: Fitted,
    facts: dict[str, Any],
    test: dict[str, Array],
) -> str:
    parts = bundle.Parts(
        users=data.users,
        items=data.items,
        titles=data.titles,
        user_vectors=stage.user_vectors,
        item_vectors=stage.item_vectors,
        catalogue=stage.snapshot.catalogue,
        histories=stage.snapshot.histories,
        statistics=stage.snapshot.statistics,
        user_features=data.user_features,
        item_features=data.item_features,
        index=stage.index,
        reranker=second.reranker,
    )
    record = {
        "name": run.name,
        "config": run.table(),
        "data": {"sha256": fingerprint(data), "as_of": stage.snapshot.as_of},
        "added": run.tower.added,
        "reranker": dict(second.facts),
        **facts,
    }
    encoders = {"users": data.user_encoder.columns, "items": data.item_encoder.columns}
    files = {
        "encoder.json": json.dumps(encoders).encode(),
        bundle.TOWER: state_bytes(towers.model),
        evaluation_arrays.FILE: evaluation_arrays.to_bytes(test),
    }
    return bundle.write(storage.join(home, "bundles"), parts, record, files)


def _on_ray(run: Run) -> bool:
    """Whether workers train the towers: those that are fitted at once are fitted here."""
    return run.train.workers > 0 and not run.tower.at_once


def _warn_of_ignored(run: Run) -> None:
    if run.tower.at_once and run.loss != Run.model_fields["loss"].default:
        logger.warning(
            "tower %s is fitted at once, without a loss: ignoring loss %s",
            run.table()["tower"]["name"],
            run.table()["loss"]["name"],
        )
    if run.linear_score.rank and not isinstance(run.reranker, RerankerSettings):
        logger.warning("there is no reranker to learn from it: ignoring linear_score")


def _check_name(home: str, identity: dict[str, Any]) -> None:
    """Check that a run that was here before is this one."""
    place = storage.join(home, RUN)
    if not storage.exists(place):
        return
    earlier = json.loads(storage.read_bytes(place))
    if earlier == identity:
        return
    changed = sorted(changes("", earlier["config"], identity["config"])) or ["the data"]
    raise ValueError(
        f"run {home} exists with another configuration ({', '.join(changed)} changed); choose "
        "another --name, or delete that folder to start anew"
    )


def changes(path: str, old: Any, new: Any) -> list[str]:
    """Return the keys (`loss.temperature`) at which two tables differ; `path` is "" at the top."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        return [c for k in keys for c in changes(f"{path}.{k}", old.get(k), new.get(k))]
    return [] if old == new else [path[1:]]


def _towers(
    home: str, run: Run, moments: dict[str, Snapshot], window: Window, tracker: Tracker
) -> dict[str, Fitted]:
    """Train the towers of every phase, or read those of phases that were finished before."""
    jobs = {
        phase: tower_job(run, known, window if phase == "select" else None)
        for phase, known in moments.items()
    }
    trained = train_on_ray if _on_ray(run) else train_here
    states = trained(jobs, storage.join(home, "training"), tracker.epoch)
    for phase, state in states.items():
        tracker.curve(phase, state["curve"])
    return {phase: _fitted_towers(run, jobs[phase], state) for phase, state in states.items()}


def _fitted_towers(run: Run, job: Job, state: dict[str, Any]) -> Fitted:
    model = run.tower.build(job.inputs)
    model.load_state_dict(state["best"]["weights"])
    model.eval()
    return Fitted(model, state["best"]["epoch"], state["curve"])


def _aligned(towers: Fitted, known: Snapshot, first: StageOne) -> Fitted:
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

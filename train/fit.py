"""The driver of a run: towers on Ray Train, both stages, evaluation, bundle.

select   towers on what was before t1, stopped by the validation window [t1, t2)
refit    towers on what was before t2, for as many epochs, measured on the test
final    towers on everything, for serving (unless final_fit is before_test)
rerank   the reranker on the candidates that select's towers have for the window
"""

import json
import logging
from typing import Any

from cluster import storage
from cluster.session import connect, scaling
from train.bundle import bundle, evaluation_arrays
from train.config import Run
from train.core.ragged import Array
from train.core.redact import plain
from train.data.encoded import Encoded
from train.data.snapshot import (
    fingerprint,
    held_out_window,
)
from train.data.splits import Folds
from train.evaluation.diagnostics import diagnose
from train.evaluation.evaluate import evaluate_users
from train.identity import RUN, check_name
from train.recommender.stages import StageOne, StageTwo
from train.report.page import write_page
from train.rerankers.base import RerankerSettings
from train.steps import (
    Fitted,
    aligned,
    before_window,
    first_stage,
    fit_towers,
    later_snapshots,
    on_ray,
    prepare,
    second_stage,
)
from train.towers.weights import state_bytes
from train.tracking.base import Tracker

logger = logging.getLogger(__name__)


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
    config = plain(run.table())
    for key in ("tracking", "page"):  # what is told of a run does not make it another one
        del config[key]
    identity = {"config": config, "data": fingerprint(data)}
    check_name(home, identity)
    _warn_of_ignored(run)
    done = storage.join(home, "done.json")
    if storage.exists(done):
        place = storage.join(home, "bundles", json.loads(storage.read_bytes(done))["version"])
        logger.info("this run is complete; its bundle is %s", place)
        return place
    tracker = run.tracking.tracker(run.name, home)
    if on_ray(run):
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
    moments = {"select": before, **later_snapshots(run, data, folds)}
    towers = fit_towers(home, run, moments, window, tracker)
    first = first_stage(run, before, towers["select"])
    second = second_stage(run, data, first, window)
    stages = {
        phase: first_stage(run, moments[phase], aligned(towers[phase], moments[phase], first))
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


def _warn_of_ignored(run: Run) -> None:
    if run.tower.at_once and run.loss != Run.model_fields["loss"].default:
        logger.warning(
            "tower %s is fitted at once, without a loss: ignoring loss %s",
            run.table()["tower"]["name"],
            run.table()["loss"]["name"],
        )
    if run.linear_score.rank and not isinstance(run.reranker, RerankerSettings):
        logger.warning("there is no reranker to learn from it: ignoring linear_score")

"""The driver of a run: towers on Ray Train, both stages, evaluation, bundle.

select   towers on interactions before t1, stopped by the validation users of [t1, t2)
refit    towers on interactions before t2, for as many epochs, measured on the test
final    towers on everything, for serving (unless final_fit is before_test)
rerank   the reranker on the candidates that select's towers retrieve for the validation users
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster import storage
from cluster.lease import check_free, leased
from cluster.session import connect, scaling
from cluster.sight import check_seen
from cluster.vitals import AGAIN, watched
from train.adapt import adapted, described
from train.bundle import bundle, evaluation_arrays
from train.config import Run
from train.core.laps import Laps
from train.core.ragged import Array
from train.core.redact import plain
from train.data.encoded import Encoded
from train.data.snapshot import Holdout, Snapshot, fingerprint, held_out
from train.data.splits.base import TEST, Folds
from train.evaluation.diagnostics import diagnose
from train.evaluation.evaluate import evaluate
from train.evaluation.folds import summarized
from train.evaluation.new_users import measure_new_users
from train.identity import DONE, check_name, complete, recorded, run_identity
from train.memory import check_memory
from train.picks import pick, record
from train.recommender.recommender import Recommender
from train.report.page import FILE as PAGE
from train.report.page import write_page
from train.report.verdict import WARNING, verdict_lines
from train.steps import (
    earlier_fold,
    final_snapshot,
    fit_towers,
    merge_sources,
    on_ray,
    prepare,
    refit_snapshot,
    reranker_holdout,
    select_holdout,
    settled,
    stage_one,
    stage_two,
)
from train.towers.encode import align
from train.towers.model import TwoTowerModel
from train.towers.weights import state_bytes
from train.tracking.base import NoTracking, Tracker

logger = logging.getLogger(__name__)
# Says that the tracker has the results.
TRACKED = "tracked.json"


def fit(run: Run, address: str | None = None) -> str:
    """Run the whole line, reusing whatever this run already finished; return the bundle's place.

    Nothing is started before the data is checked, and nothing of the run is written before the
    workers are there. The MLflow store of `run.tracking` is reached before both. One process at a
    time writes a run; a page or results that a complete run lacks are made up.

    Args:
        run: what to do.
        address: of a Ray head; see `cluster.session.connect`.

    Raises:
        ValueError: the data, the number of workers, a run of the same name with another
            configuration or that is being fitted, or a store of `run.tracking` that cannot be
            reached.
    """
    home = storage.join(storage.absolute(run.storage), run.name)
    check_free(home)
    data, folds = prepare(run)
    run = adapted(run, data)
    check_memory(run, data)
    identity = run_identity(run, data)
    check_name(home, identity)
    _warn_of_ignored(run)
    if not complete(home):
        # What an earlier cut lacks is said here, before any tower is trained.
        earlier = [earlier_fold(run, data, steps) for steps in range(1, run.evaluation.folds)]
        holdout = select_holdout(run, data, folds)
        tracker = run.tracking.tracker(run.name, home)
        with _on_ray(run, address, home) as leave, leased(home), recorded(home, identity), tracker:
            tracker.begin(identity["config"])
            # The towers of earlier cuts are trained later.
            leave = _nothing if earlier else leave
            result = _fitted(home, run, data, folds, holdout, tracker, leave)
            _add_folds(home, run, result, folds.t2, earlier)
            logger.info("bundle: writing it")
            version = _write(home, run, data, result)
            storage.write_bytes(storage.join(home, DONE), json.dumps({"version": version}).encode())
            return _report(run, home, tracker)
    logger.info("this run is complete; its bundle is %s", _bundle(home))
    if _reported(run, home):
        return _bundle(home)
    with leased(home), run.tracking.tracker(run.name, home) as tracker:
        tracker.begin(identity["config"])
        return _report(run, home, tracker)


def _bundle(home: str) -> str:
    version = json.loads(storage.read_bytes(storage.join(home, DONE)))["version"]
    return storage.join(home, "bundles", version)


def _reported(run: Run, home: str) -> bool:
    """Whether page and tracker have all that there is of a run that is complete."""
    if run.page and not storage.exists(storage.join(home, PAGE)):
        return False
    return isinstance(run.tracking, NoTracking) or storage.exists(storage.join(home, TRACKED))


def _report(run: Run, home: str, tracker: Tracker) -> str:
    """Log the results; then draw the page, last: whatever plots fail at, the bundle is there."""
    place = _bundle(home)
    text = storage.read_bytes(storage.join(place, storage.MANIFEST)).decode()
    for line in verdict_lines(json.loads(text)):
        logger.warning("%s", line) if line.startswith(WARNING) else logger.info("%s", line)
    tracker.results(place, text)
    if run.page:
        logger.info("report: drawing the page")
        page = write_page(place)
        tracker.report(page)
        logger.info("report: %s", page)
    if not isinstance(run.tracking, NoTracking):
        storage.write_bytes(storage.join(home, TRACKED), json.dumps({"bundle": place}).encode())
    return place


@dataclass(frozen=True)
class Result:
    """A fit's outcome, as its bundle stores it.

    Attributes:
        recommender: as it is served.
        as_of: moment of its snapshot, seconds.
        model: its towers.
        facts: `metrics` of the test, `training` and `reranker`, for the manifest.
        arrays: of the test, for comparisons and plots.
    """

    recommender: Recommender
    as_of: int
    model: TwoTowerModel
    facts: dict[str, Any]
    arrays: dict[str, Array]


@contextlib.contextmanager
def _on_ray(run: Run, address: str | None, home: str) -> Iterator[Callable[[], None]]:
    """Connect to Ray where workers train, watch it, and yield what leaves it before the end."""
    if not on_ray(run):
        yield _nothing
        return
    session = connect(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(watched(AGAIN))
        scaling(run.train.workers, run.train.gpu, wait=run.train.wait)
        check_seen(storage.parent(home))

        def leave() -> None:
            stack.close()
            session.leave()

        yield leave


def _nothing() -> None:
    """Do nothing."""


def _fitted(
    home: str,
    run: Run,
    data: Encoded,
    folds: Folds,
    holdout: Holdout,
    tracker: Tracker,
    leave: Callable[[], None] = _nothing,
) -> Result:
    """Fit and measure both stages; `leave` is called once nothing needs Ray any more."""
    laps = Laps()
    phases = _phases(run, data, folds, holdout)
    run = settled(run, phases["select"])
    towers = fit_towers(home, run, phases, holdout, tracker)
    leave()
    laps.end("towers")
    logger.info("picks: settings of baselines and sources that nobody gave")
    run = pick(run, reranker_holdout(run, holdout))
    laps.end("picks")
    logger.info("select: indexing items, fitting sources: %s", _names(run.sources))
    selected = stage_one(run, data, holdout.known, towers["select"].model, run.sources)
    selected, contributed = merge_sources(run, selected, holdout)
    laps.end("sources")
    sources = [source for source in run.sources if source.name in selected.quotas]
    second = stage_two(run, selected, holdout)
    laps.end("rerank")
    recommenders = {}
    for phase, known in list(phases.items())[1:]:
        logger.info("%s: indexing items, fitting sources: %s", phase, _names(sources))
        _align(towers[phase].model, known, selected)
        first = stage_one(run, data, known, towers[phase].model, sources)
        served = second.gate["served"]
        recommenders[phase] = replace(first, reranker=second.reranker, served=served)
    laps.end("refit")
    test = held_out(data, folds, phases["refit"])
    baselines = _names(run.evaluation.baselines)
    logger.info("test: ranking for %s users; baselines: %s", f"{len(test.users):,}", baselines)
    evaluated = evaluate(recommenders["refit"], test, run.evaluation, run.seed)
    window = run.split.cut(data.interactions)[0] == TEST
    evaluated.report["new_users"] = measure_new_users(
        recommenders["refit"], data.interactions, window, run.evaluation.k, run.seed
    )
    arrays = evaluated.arrays() | diagnose(recommenders["refit"], test, run.seed)
    laps.end("evaluate")
    training = {
        "epochs": towers["select"].epoch,
        "select": towers["select"].curve,
        "settings": run.train.model_dump(mode="json"),
    }
    facts = {
        "metrics": evaluated.report,
        "training": training,
        "reranker": dict(second.facts),
        "gate": dict(second.gate),
        "importance": dict(second.importance),
        "contributions": contributed,
        "picks": record(run),
        "test_window": folds.window.record(),
        "seconds": laps.seconds,
    }
    last = list(phases)[-1]
    as_of, model = phases[last].as_of, towers[last].model
    return Result(recommenders[last], as_of, model, facts, arrays)


def _names(entries: Sequence[Any]) -> str:
    return ", ".join(entry.name for entry in entries) or "none"


def _add_folds(
    home: str, run: Run, result: Result, newest: int, earlier: Sequence[tuple[Run, Encoded, Folds]]
) -> None:
    """Add mean and spread over folds to the metrics; those that were fitted before are read."""
    if not earlier:
        return
    logger.info("folds: %d more, each a fit of its own without the final one", len(earlier))
    reports, cuts = [plain(result.facts["metrics"])], [newest]
    for number, (of, data, folds) in enumerate(earlier, start=2):
        place = storage.join(home, "folds", str(number))
        file, begun = storage.join(place, "metrics.json"), time.monotonic()
        if not storage.exists(file):
            logger.info("fold %d of %d: test from %d", number, run.evaluation.folds, folds.t2)
            holdout = select_holdout(of, data, folds)
            facts = _fitted(place, of, data, folds, holdout, Tracker()).facts
            storage.write_bytes(file, json.dumps(plain(facts["metrics"])).encode())
            took = time.monotonic() - begun
            logger.info("fold %d of %d: %.0f s", number, run.evaluation.folds, took)
        reports.append(json.loads(storage.read_bytes(file)))
        cuts.append(folds.t2)
    result.facts["metrics"]["folds"] = summarized(reports, cuts)


def _phases(run: Run, data: Encoded, folds: Folds, holdout: Holdout) -> dict[str, Snapshot]:
    """Return the snapshot that the towers of each phase learn from; the last one is served."""
    phases = {"select": holdout.known, "refit": refit_snapshot(run, data, folds)}
    if run.final_fit == "everything":
        phases["final"] = final_snapshot(run, data)
    return phases


def _align(model: TwoTowerModel, known: Snapshot, selected: Recommender) -> None:
    """Align a refitted embedding space to the one that the reranker was fitted to."""
    both = known.inputs.warm_items & (selected.statistics.item_count > 0)
    align(model, selected.item_vectors, both)


def _write(home: str, run: Run, data: Encoded, result: Result) -> str:
    record = {
        "name": run.name,
        "config": run.table(),
        "data": {
            "sha256": fingerprint(data),
            "as_of": result.as_of if data.interactions.timed else None,
            **described(data),
        },
        **result.facts,
    }
    encoders = {"users": data.user_encoder.columns, "items": data.item_encoder.columns}
    files = {
        bundle.ENCODERS: json.dumps(encoders).encode(),
        bundle.TOWER: state_bytes(result.model),
        evaluation_arrays.FILE: evaluation_arrays.to_bytes(result.arrays),
    }
    return bundle.write(storage.join(home, "bundles"), result.recommender, record, files)


def _warn_of_ignored(run: Run) -> None:
    if run.tower.closed_form() and run.loss != Run.model_fields["loss"].default:
        logger.warning(
            "tower %s is fitted at once, without a loss: ignoring loss %s",
            run.table()["tower"]["name"],
            run.table()["loss"]["name"],
        )
    if run.linear_score.rank and not run.rerankers():
        logger.warning("there is no reranker to learn from it: ignoring linear_score")

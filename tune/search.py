"""The driver of a sweep: data prepared once, trials on Ray Tune, their records written."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune import Tuner

from cluster import storage
from cluster.lease import check_free, leased
from cluster.session import check_room, connect
from cluster.sight import check_seen
from cluster.vitals import watched
from train.adapt import adapted
from train.config import Run
from train.core.redact import plain
from train.data.encoded import Encoded
from train.data.snapshot import fingerprint
from train.identity import changes
from train.steps import prepare
from train.trainer.workers import interruptible
from tune.config import Sweep
from tune.report.records import Record
from tune.report.text import record
from tune.space.draws import override
from tune.space.points import Point, point
from tune.trials import tuner
from tune.trials.trial import kept_by_seed, state_in
from tune.trials.tuner import SWEEP

logger = logging.getLogger(__name__)

RECORDS = "trials.json"


@dataclass(frozen=True)
class SearchResult:
    """The finished trials of a sweep.

    Attributes:
        records: of the trials, see `tune.report.records.Record`.
        checkpoints: the last of each trial, in the order of the records.
        shared: data that the subject prepared for all trials.
    """

    records: list[Record]
    checkpoints: list[Any]
    shared: Any


def search(
    sweep: Sweep, run: Run, address: str | None = None, resume: bool = False
) -> SearchResult:
    """Run all trials of a sweep and write their records into `trials.json`.

    Nothing is started before the data is checked.

    Args:
        sweep: the settings of the sweep.
        run: the base run, `sweep.base()`.
        address: of a Ray head; see `cluster.session.connect`.
        resume: go on with a sweep that was interrupted, or that is to have more trials.

    Raises:
        ValueError: a sweep of this name exists, is running, or is another one than is to be
            resumed; the data; or more resources than any node has.
        KeyboardInterrupt: it was interrupted; finished trials are kept.
    """
    home = sweep_folder(sweep, run)
    check_free(home)
    data, folds = prepare(run)
    run = adapted(run, data)
    identity = _identity(sweep, run, data)
    _check_folder(home, identity, resume)
    earlier = [] if resume else _earlier(sweep, run)
    tuner.quiet()
    connect(address)
    check_room(tuner.resources(sweep, run), "a trial")
    check_seen(storage.parent(home))
    tracker = sweep.tracking.tracker(sweep.name, home)
    with leased(home), tracker:
        storage.write_bytes(storage.join(home, SWEEP), _json(identity))
        tracker.begin(identity["sweep"])
        shared = sweep.subject.prepare(run, data, folds, home)
        trials = tuner.trials_in(home)
        trainable = tuner.trainable(sweep, run, shared, trials)
        new = tuner.new(sweep, run, trainable, trials, earlier) if not resume else None
        ended, complete = _run_trials(sweep, new or tuner.resumed(trainable, trials))
        records = [_record(sweep, result) for result in ended]
        storage.write_bytes(storage.join(home, RECORDS), _json(records))
        for row in records:
            name = f"{sweep.name}-{row['trial']}"
            tracker.child(name, row["overrides"], row["values"], row["curve"], row["reason"])
        if not complete:
            logger.info("%d trials have ended and are kept; to go on: --resume", len(ended))
            raise KeyboardInterrupt
    return SearchResult(records, [result.checkpoint for result in ended], shared)


def _run_trials(sweep: Sweep, tuned: Tuner) -> tuple[list[Any], bool]:
    """Run the trials; return the results of those that ended, and whether these are all."""
    begun = time.monotonic()
    with interruptible(), watched("The same command with --resume goes on."):
        grid = tuned.fit()
    late = sweep.hours is not None and time.monotonic() - begun >= sweep.hours * 3600
    # A resumed sweep has its trials in another order.
    trials = sorted((grid[at] for at in range(len(grid))), key=_number)
    # Out of time, a trial counts by the epochs that it has had.
    ended = [
        result
        for result in trials
        if _has_ended(result) or (late and (result.metrics or {}).get("epoch"))
    ]
    return ended, late or len(ended) >= (sweep.trials or len(grid) + 1)


def sweep_folder(sweep: Sweep, run: Run) -> str:
    """Return the folder or URI of a sweep's files."""
    return storage.join(storage.absolute(run.storage), sweep.name)


def _identity(sweep: Sweep, run: Run, data: Encoded) -> dict[str, Any]:
    """Return the identity of a sweep; tracking and report settings are not part of it."""
    settings = sweep.model_dump(mode="json", serialize_as_any=True, exclude={"tracking"})
    table = {k: v for k, v in run.table().items() if k not in ("tracking", "page")}
    identity: dict[str, Any] = plain({"sweep": settings, "run": table, "data": fingerprint(data)})
    return identity


def _check_folder(home: str, identity: Mapping[str, Any], resume: bool) -> None:
    """Check that the folder is empty or, for a resume, that of this sweep, with trials to come."""
    known = storage.join(home, SWEEP)
    if not resume:
        if storage.names(home):
            raise ValueError(
                f"{home} exists; choose another --name, go on with it by --resume, or delete it"
            )
        return
    if not storage.exists(known):
        raise ValueError(f"{home} is no sweep to resume; leave --resume out to begin one")
    earlier = json.loads(storage.read_bytes(known))
    before, now = earlier["sweep"]["trials"], identity["sweep"]["trials"]
    if now is not None and (before is None or now < before):
        have = "no limit of trials" if before is None else f"{before} trials"
        raise ValueError(f"{home} was begun with {have}; a resume takes more, got {now}")
    changed = sorted(set(changes("", earlier, identity)) - {"sweep.trials"})
    if changed:
        raise ValueError(
            f"{home} is another sweep ({', '.join(changed)} changed); choose another --name, or "
            "set back what changed"
        )


def _earlier(sweep: Sweep, run: Run) -> list[tuple[Point, list[float]]]:
    """Return the trials of `sweep.after` that lie in the space, with their values.

    Raises:
        ValueError: it is no sweep, or none of its trials does.
    """
    if sweep.after is None:
        return []
    home = storage.absolute(sweep.after)
    if not storage.exists(storage.join(home, RECORDS)):
        raise ValueError(f"after: {home} is not the folder of a sweep that has ended")
    base = json.loads(storage.read_bytes(storage.join(home, SWEEP)))["run"]
    records = json.loads(storage.read_bytes(storage.join(home, RECORDS)))
    points = list(_points(sweep, run, Run.model_validate(base), records))
    if not points:
        raise ValueError(
            f"after: of the {len(records)} trials in {home} none lies in the space with values of "
            f"{', '.join(sweep.directions())}; take that sweep's run and ranges, or leave it out"
        )
    logger.info("learned from %d of %d trials in %s", len(points), len(records), home)
    return points


def _points(
    sweep: Sweep, run: Run, base: Run, records: list[Record]
) -> Iterator[tuple[Point, list[float]]]:
    """Yield the parameters and values of those records whose runs the space can draw."""
    space, names = sweep.ranges(), list(sweep.directions())
    # The name, storage, tracking and report of a run change no value.
    aside = {key: getattr(run, key) for key in ("name", "storage", "tracking", "page")}
    for row in records:
        wanted = override(base, row["overrides"]).model_copy(update=aside)
        params = point(space, run, wanted)
        if params is not None and row["values"].keys() >= set(names):
            yield params, [row["values"][name] for name in names]


def _number(result: Any) -> int:
    return int(result.config["trial"])


def _has_ended(result: Any) -> bool:
    row = result.metrics or {}
    return bool(result.error or row.get("ended") or row.get("done"))


def _record(sweep: Sweep, result: Any) -> Record:
    return record(result.config, result.metrics, result.error, sweep.directions())


def kept(result: SearchResult, position: int) -> list[Any]:
    """Return the kept values of each seed of the trial at a position, such as its weights."""
    return kept_by_seed(state_in(result.checkpoints[position]))


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()

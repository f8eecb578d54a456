"""The driver of a sweep: data prepared once, trials on Ray Tune, what they found written down."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune import Tuner

from cluster import storage
from cluster.session import check_room, connect
from train.config import Run
from train.core.redact import plain
from train.data.encoded import Encoded
from train.data.snapshot import fingerprint
from train.identity import changes
from train.steps import prepare
from train.trainer.workers import interruptible
from tune.config import Sweep
from tune.report.text import Record, record
from tune.space.draws import override
from tune.space.points import Point, point
from tune.trials import tuner
from tune.trials.trial import restored, results

logger = logging.getLogger(__name__)

SWEEP = "sweep.json"
RECORDS = "trials.json"


@dataclass(frozen=True)
class Found:
    """What a sweep's trials came to.

    Attributes:
        records: of the trials that ended, see `tune.report.records.Record`.
        kept: what the trials kept, one place for each record; a trial has it for each seed.
        shared: what all trials shared.
    """

    records: list[Record]
    kept: list[Any]
    shared: Any


def search(sweep: Sweep, run: Run, address: str | None = None, resume: bool = False) -> Found:
    """Run all trials of a sweep and write their records into `trials.json`.

    Nothing is started before the data is checked.

    Args:
        sweep: what to vary.
        run: what is varied, `sweep.base()`.
        address: of a Ray head; see `cluster.session.connect`.
        resume: go on with a sweep that was interrupted.

    Raises:
        ValueError: a sweep of this name exists, or is another one than is to be resumed; the data;
            or more resources than any node has.
        KeyboardInterrupt: it was interrupted; what is finished is kept.
    """
    home = place(sweep, run)
    data, folds = prepare(run)
    identity = _identity(sweep, run, data)
    _check_place(home, identity, resume)
    earlier = [] if resume else _earlier(sweep, run)
    tuner.quiet()
    connect(address)
    check_room(tuner.resources(sweep, run), "a trial")
    tracker = sweep.tracking.tracker(sweep.name, home)
    storage.write_bytes(storage.join(home, SWEEP), _json(identity))
    with tracker:
        tracker.begin(identity["sweep"])
        shared = sweep.subject.prepare(run, data, folds, home)
        trials = tuner.trials_in(home)
        measured = tuner.measured(sweep, run, shared, trials)
        begin = tuner.new(sweep, run, measured, trials, earlier) if not resume else None
        ended, whole = _ended(sweep, begin or tuner.resumed(measured, trials))
        records = [_record(sweep, one) for one in ended]
        storage.write_bytes(storage.join(home, RECORDS), _json(records))
        for row in records:
            told = row["overrides"], row["values"], row["curve"], row["reason"]
            tracker.child(f"{sweep.name}-{row['trial']}", *told)
        if not whole:
            logger.info("%d trials have ended and are kept; to go on: --resume", len(ended))
            raise KeyboardInterrupt
    return Found(records, [one.checkpoint for one in ended], shared)


def _ended(sweep: Sweep, tuned: Tuner) -> tuple[list[Any], bool]:
    """Run the trials; return the results of those that ended, and whether these are all."""
    begun = time.monotonic()
    with interruptible():
        grid = tuned.fit()
    late = sweep.hours is not None and time.monotonic() - begun >= sweep.hours * 3600
    # A resumed sweep has its trials in another order.
    trials = sorted((grid[at] for at in range(len(grid))), key=_number)
    ended = [
        one for one in trials if _has_ended(one) or (late and (one.metrics or {}).get("epoch"))
    ]
    return ended, late or len(ended) >= (sweep.trials or len(grid) + 1)


def place(sweep: Sweep, run: Run) -> str:
    """Return the folder or URI of a sweep's files."""
    return storage.join(storage.absolute(run.storage), sweep.name)


def _identity(sweep: Sweep, run: Run, data: Encoded) -> dict[str, Any]:
    """Return what makes a sweep another one; how it is told of does not."""
    settings = sweep.model_dump(mode="json", serialize_as_any=True, exclude={"tracking"})
    table = {k: v for k, v in run.table().items() if k not in ("tracking", "page")}
    found: dict[str, Any] = plain({"sweep": settings, "run": table, "data": fingerprint(data)})
    return found


def _check_place(home: str, identity: Mapping[str, Any], resume: bool) -> None:
    """Check that there is nothing, or to resume, that it is this very sweep."""
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
    changed = sorted(changes("", earlier, identity))
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
    found = list(_told(sweep, run, Run.model_validate(base), records))
    if not found:
        raise ValueError(
            f"after: of the {len(records)} trials in {home} none lies in the space with values of "
            f"{', '.join(sweep.directions())}; take that sweep's run and ranges, or leave it out"
        )
    logger.info("learned from %d of %d trials in %s", len(found), len(records), home)
    return found


def _told(
    sweep: Sweep, run: Run, base: Run, records: list[Record]
) -> Iterator[tuple[Point, list[float]]]:
    space, names = sweep.ranges(), list(sweep.directions())
    # How a run is told of, and what it is called, changes no value.
    aside = {key: getattr(run, key) for key in ("name", "storage", "tracking", "page")}
    for row in records:
        wanted = override(base, row["overrides"]).model_copy(update=aside)
        found = point(space, run, wanted)
        if found is not None and row["values"].keys() >= set(names):
            yield found, [row["values"][name] for name in names]


def _number(result: Any) -> int:
    return int(result.config["trial"])


def _has_ended(result: Any) -> bool:
    row = result.metrics or {}
    return bool(result.error or row.get("ended") or row.get("done"))


def _record(sweep: Sweep, result: Any) -> Record:
    return record(result.config, result.metrics, result.error, sweep.directions())


def kept(found: Found, position: int) -> list[Any]:
    """Return what the trial at a position kept of each of its seeds."""
    checkpoint = found.kept[position]
    return results(restored(checkpoint))


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()

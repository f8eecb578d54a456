"""The phases of a run, one after the other on the same workers, each with towers of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cluster import storage
from train.trainer.checkpoint import checkpoint_bytes, read_checkpoint
from train.trainer.job import Job, Worker
from train.trainer.loop import train

State = dict[str, Any]

# What is left of a phase that is over: towers go on from nowhere else.
KEPT = ("epoch", "best", "curve")


def train_phases(
    jobs: Mapping[str, Job], place: str, worker: Worker, state: State | None = None
) -> dict[str, State]:
    """Train each job in turn, but read what is over already; return what is kept of each.

    The first one says with its best epoch how many epochs those after it take. What is kept of a
    phase is written as it ends: `epoch` and `best`, the weights with which it is used, and `curve`.

    Args:
        jobs: by phase, in order.
        place: folder or URI of what is kept.
        worker: every metric and state that it is told has the `phase` too.
        state: of a checkpoint, which the phase that it is of goes on from.

    Raises:
        ValueError: the loss is no longer finite.
    """
    done = read_phases(jobs, place)
    for phase, job in jobs.items():
        if phase in done:
            continue
        begun = state if state and state["phase"] == phase else None
        last = train(_as_long(job, done), _telling(worker, phase), begun)
        done[phase] = {key: last[key] for key in KEPT}
        if worker.rank == 0:
            storage.write_bytes(_file(place, phase), checkpoint_bytes(done[phase]))
    return done


def read_phases(phases: Iterable[str], place: str) -> dict[str, State]:
    """Return what is kept of those phases that are over."""
    files = {phase: _file(place, phase) for phase in phases}
    return {
        phase: read_checkpoint(storage.read_bytes(file))
        for phase, file in files.items()
        if storage.exists(file)
    }


def _file(place: str, phase: str) -> str:
    return storage.join(place, f"{phase}.pt")


def _as_long(job: Job, done: Mapping[str, State]) -> Job:
    """Return a job that takes as many epochs as the first one needed; the first one as it is."""
    first = next(iter(done.values()), None)
    return job if first is None else replace(job, stop_after=first["best"]["epoch"])


def _telling(worker: Worker, phase: str) -> Worker:
    def report(metrics: dict[str, Any], state: State | None) -> None:
        worker.report({"phase": phase, **metrics}, state and {"phase": phase, **state})

    return replace(worker, report=report)

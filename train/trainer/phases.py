"""The phases of a run, one after the other on the same workers, each with towers of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from train.trainer.checkpoint import (
    PhaseResult,
    State,
    is_of,
    phase_result,
    read_phases,
    write_phase,
)
from train.trainer.job import Job, Worker
from train.trainer.loop import train


def train_phases(
    jobs: Mapping[str, Job], place: str, worker: Worker, state: State | None = None
) -> dict[str, PhaseResult]:
    """Train each job in turn, or read the result of a phase that is complete.

    The best epoch of the first phase is the number of epochs of those after it. The result of a
    phase is written as it ends.

    Args:
        jobs: by phase, in order.
        place: folder or URI of the results.
        worker: its reports get the `phase`, in metrics and state.
        state: of a checkpoint, from which the phase that it is of resumes.

    Raises:
        ValueError: the loss is no longer finite.
    """
    done = finished(jobs, place)
    for phase, job in jobs.items():
        if phase in done:
            continue
        own = state and state["phase"] == phase and is_of(state, job.identity)
        named = _with_phase(worker, phase, job.identity)
        last = train(_as_long(job, done), named, state if own else None)
        last["job"] = job.identity
        # Workers all have the result, and rank 0 writes it.
        done[phase] = write_phase(place, phase, last) if worker.rank == 0 else phase_result(last)
    return done


def finished(jobs: Mapping[str, Job], place: str) -> dict[str, PhaseResult]:
    """Return the results of those jobs that are complete, by phase."""
    return read_phases({phase: job.identity for phase, job in jobs.items()}, place)


def _as_long(job: Job, done: Mapping[str, PhaseResult]) -> Job:
    """Return a job that ends at the best epoch of the first phase; the first phase's as it is."""
    first = next(iter(done.values()), None)
    return job if first is None else replace(job, stop_after=first["best"]["epoch"])


def _with_phase(worker: Worker, phase: str, identity: str) -> Worker:
    """Return a worker whose reports name the phase, and its job's identity."""

    def report(metrics: dict[str, Any], state: State | None) -> None:
        # The phase comes first in the file, where it has always been.
        named: State | None = None if state is None else {"phase": phase, "job": identity, **state}
        worker.report({"phase": phase, **metrics}, named)

    return replace(worker, report=report)

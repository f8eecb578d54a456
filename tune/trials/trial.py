"""One trial: a run with some keys replaced, measured in the trial's own process."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import ray
import ray.tune
import torch

from cluster import storage
from train.config import Run
from train.trainer.checkpoint import CHECKPOINT, State, checkpoint_bytes, read_checkpoint
from train.trainer.job import Worker
from tune.space.draws import override
from tune.subjects import SUBJECTS

Directions = Mapping[str, Literal["max", "min"]]
"""The metrics that trials are compared by, the deciding one first."""

TrialState = dict[str, Any]
"""Checkpointed state of a trial: `seeds` (`values` and `kept` of each seed that is done), `row`
(the last report), and `state` of the training that is under way."""

# The scheduler's time attribute: the epoch, or 0 in a report that is not to be compared.
RUNG = "rung"
# Values of a failed trial: no trial is worse.
WORST = {"max": 0.0, "min": 1e9}
# The report of a trial that has measured nothing yet.
NOTHING: Mapping[str, Any] = {"epoch": 0, "best_epoch": 0, "curve": [], "seconds": 0.0}


@dataclass(frozen=True)
class TrialPlan:
    """Settings that all trials of a sweep have in common.

    Attributes:
        subject: a key of `SUBJECTS`.
        run: the base run, whose keys a trial overrides.
        metrics: of the search, with their directions.
        seeds: number of seeds that a trial is measured with.
        threads: of torch.
        folder: folder or URI of the trials, each in a folder by its Tune id.
    """

    subject: str
    run: Run
    metrics: Directions
    seeds: int
    threads: int
    folder: str


def trial(config: Mapping[str, Any], *, plan: TrialPlan, shared: Any) -> None:
    """Measure a trial with each of its seeds; report every epoch of the first, then the means.

    Every report carries a checkpoint, and a trial that begins with one goes on from there; one
    that had ended only repeats its last report. Its curve and seconds go with it, as a kill may
    lose what Tune wrote down of a report, and Tune's own clock begins anew. A failure (a loss that
    is no longer finite, no memory left) is reported as `failed` with the worst values, so that the
    search learns to avoid the place.

    Args:
        config: its number as `trial`, and its `overrides` by key of the run.
        plan: settings of all trials.
        shared: data that the subject prepared for all trials.
    """
    torch.set_num_threads(plan.threads)
    folder = storage.join(plan.folder, ray.tune.get_context().get_trial_id())
    state = newest_state(folder) or {"seeds": [], "row": {}, "state": None}
    state["row"] = {**NOTHING, **state["row"]}
    if state["row"].get("ended"):
        _report_with_checkpoint(state)
        return
    state["compared"] = bool(config["overrides"])
    state["begun"] = time.monotonic() - state["row"]["seconds"]
    try:
        run = override(plan.run, config["overrides"])
        while len(state["seeds"]) < plan.seeds:
            _measure_seed(state, plan, run, shared)
        _report(state, _means(state["seeds"]) | {"ended": True, RUNG: 0})
    except (ValueError, RuntimeError, MemoryError) as error:
        worst = {name: WORST[direction] for name, direction in plan.metrics.items()}
        reason = str(error) or type(error).__name__
        ray.tune.report({**state["row"], **worst, "failed": reason, "ended": True, RUNG: 0})


def _measure_seed(state: TrialState, plan: TrialPlan, run: Run, shared: Any) -> None:
    """Measure a run with the next seed, and add its values to the state."""
    number = len(state["seeds"])

    def report(row: dict[str, Any], training: State | None) -> None:
        state["state"] = training
        # Trials are compared epoch by epoch, so by the first seed, which all of them have. The run
        # as it is, which the winner is to beat, is never stopped early.
        if not number:
            curve = [*state["row"]["curve"], row[next(iter(plan.metrics))]]
            rung = row["epoch"] if state["compared"] else 0
            _report(state, row | {"curve": curve, RUNG: rung})

    worker = Worker(device=torch.device("cuda" if ray.get_gpu_ids() else "cpu"), report=report)
    seeded = run.model_copy(update={"seed": run.seed + number})
    measure = SUBJECTS[plan.subject].measure
    values, kept = measure(shared, seeded, plan.metrics, worker, state["state"])
    state.update(seeds=[*state["seeds"], {"values": values, "kept": kept}], state=None)


def _means(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = seeds[0]["values"]
    return {name: sum(seed["values"][name] for seed in seeds) / len(seeds) for name in names}


def _report(state: TrialState, row: Mapping[str, Any]) -> None:
    state["row"] = {**state["row"], **row, "seconds": time.monotonic() - state["begun"]}
    _report_with_checkpoint(state)


def _report_with_checkpoint(state: TrialState) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / CHECKPOINT).write_bytes(checkpoint_bytes(state))
        checkpoint = ray.tune.Checkpoint.from_directory(folder)
        ray.tune.report(dict(state["row"]), checkpoint=checkpoint)


def newest_state(folder: str) -> TrialState | None:
    """Return the state in the newest whole checkpoint of a trial's folder; None without one.

    After a kill there may be newer ones than Tune knows of, and the last one may be half there.
    """
    checkpoints = [name for name in storage.names(folder) if name.startswith("checkpoint_")]
    for name in reversed(checkpoints):
        with contextlib.suppress(RuntimeError, EOFError, FileNotFoundError):
            kept: TrialState = read_checkpoint(
                storage.read_bytes(storage.join(folder, name, CHECKPOINT))
            )
            return kept
    return None


def state_in(checkpoint: "ray.tune.Checkpoint | None") -> TrialState | None:
    """Return the state in a checkpoint of Tune; None without one."""
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        kept: TrialState = read_checkpoint((Path(folder) / CHECKPOINT).read_bytes())
    return kept


def kept_by_seed(state: TrialState | None) -> list[Any]:
    """Return the kept values of each seed of a trial, such as its weights.

    A trial that was stopped in its first seed has the weights of its best epoch so far.
    """
    if state is None:
        return []
    training = state["state"]
    so_far = [training["best"]["weights"]] if training and not state["seeds"] else []
    return [seed["kept"] for seed in state["seeds"]] or so_far

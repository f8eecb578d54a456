"""The loop over epochs that runs on each worker: train, validate, keep the best, report."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from train.towers.model import TwoTowerModel
from train.trainer.checkpoint import Best, Curve, State, Within, restore
from train.trainer.epoch import Setup, train_epoch, with_hard
from train.trainer.job import Job, Worker
from train.trainer.validation import validation_ndcg


def train(job: Job, worker: Worker, state: State | None = None) -> State:
    """Train towers from the start or from a checkpoint's state; return the last state.

    A tower that is fitted in closed form has a single epoch, without a loss.

    Args:
        job: towers, loss, settings and data.
        worker: that this is; its `report` is called after each epoch, and within long ones.
        state: to resume from.

    Raises:
        ValueError: the loss is no longer finite.
    """
    torch.manual_seed(job.seed)
    model = job.tower.build(job.inputs).to(worker.device)
    if job.tower.closed_form():
        return _fit_closed_form(state, job, worker, model)
    job.tower.prepare(model, job.interactions)
    setup = Setup.of(job, worker, model)
    if state is not None:
        restore(state, model, setup.optimizer)
    while state is None or not _finished(state, job):
        epoch = 0 if state is None else state["epoch"]
        negatives = with_hard(setup.negatives, job, model, epoch)
        begun = None if state is None else state.get("within")
        keep = None if negatives.pool is not None else partial(_keep, setup, model, state)
        measured = train_epoch(replace(setup, negatives=negatives), epoch, begun, keep)
        state = _next_state(state, job, worker, model, measured)
        state["optimizer"] = setup.optimizer.state_dict()
        worker.report(state["curve"][-1], state if worker.rank == 0 else None)
    return state


def _keep(
    setup: Setup, model: TwoTowerModel, state: State | None, within: Within, steps: int
) -> None:
    """Report the state within an epoch, after the state `state`."""
    worker, curve = setup.worker, [] if state is None else state["curve"]
    row = {"epoch": len(curve) + 1, "step": within["steps"], "steps": steps}
    kept: State = {
        "epoch": len(curve),
        "curve": curve,
        "model": model.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "within": within,
    }
    if state is not None and "best" in state:
        kept["best"] = state["best"]
    worker.report(row | {"seconds": within["seconds"]}, kept if worker.rank == 0 else None)


def _fit_closed_form(state: State | None, job: Job, worker: Worker, model: TwoTowerModel) -> State:
    """Fit a tower in closed form, unless this is the state of one that is fitted."""
    if state is not None:
        return state
    began = time.perf_counter()
    job.tower.fit(model, job.inputs, job.interactions, job.seed)
    state = _next_state(None, job, worker, model, {"seconds": time.perf_counter() - began})
    worker.report(state["curve"][-1], state if worker.rank == 0 else None)
    return state


def _next_state(
    state: State | None,
    job: Job,
    worker: Worker,
    model: TwoTowerModel,
    measured: dict[str, float],
) -> State:
    """Validate, and return the state after an epoch with its metrics and the best epoch so far."""
    curve = [] if state is None else state["curve"]
    row: dict[str, Any] = {"epoch": len(curve) + 1, **measured}
    peak = _peak(curve)
    # A tower may settle its tables as training ends, and what is kept is what is used.
    model.eval()
    if job.validation is not None:
        row["ndcg"] = validation_ndcg(model, job, worker)
    good = peak is None or row["ndcg"] >= peak["ndcg"] * (1 - job.training.tolerance)
    return {
        "epoch": row["epoch"],
        "best": _best(row, model) if state is None or good else state["best"],
        "curve": [*curve, row],
        "model": model.state_dict(),
    }


def _best(row: dict[str, Any], model: TwoTowerModel) -> Best:
    """Return an epoch's weights, copied to the CPU: those of the model go on changing."""
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    return {"epoch": row["epoch"], "ndcg": row.get("ndcg"), "weights": weights}


def _finished(state: State, job: Job) -> bool:
    epoch, peak = state["epoch"], _peak(state["curve"])
    if job.stop_after is not None:
        return bool(epoch >= job.stop_after)
    stale = peak is not None and epoch - peak["epoch"] >= job.schedule.patience
    return bool(epoch >= job.schedule.epochs or stale)


def _peak(curve: Curve) -> dict[str, Any] | None:
    """Return the first epoch with the best validation NDCG@10; None where none was validated."""
    return max((row for row in curve if "ndcg" in row), key=lambda row: row["ndcg"], default=None)

"""The loop that runs on each worker: batches, forward, loss, step, validate, checkpoint."""

import math
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from train.losses.base import Loss, Scored
from train.losses.pairwise import PairLoss
from train.towers.base import TwoTowerModel
from train.towers.weights import head_of
from train.trainer.batches import (
    Batch,
    epoch_batches,
    history_before,
    history_sample,
    steps_per_epoch,
    user_batch,
    window_batch,
    windows,
)
from train.trainer.checkpoint import restore
from train.trainer.examples import Examples, examples
from train.trainer.job import Job, Training, Worker
from train.trainer.negatives import Negatives, hard_pool
from train.trainer.validation import all_sum, validation_ndcg


def train(job: Job, worker: Worker, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train towers from the start or from a checkpoint's state; return the last state.

    A tower that is fitted at once has a single epoch, without a loss.

    Raises:
        ValueError: the loss is no longer finite.
    """
    torch.manual_seed(job.seed)
    model = job.tower.build(job.inputs).to(worker.device)
    state = state or {"epoch": 0, "best": None, "curve": []}
    if job.tower.at_once:
        return _fit_at_once(state, job, worker, model)
    job.tower.prepare(model, job.interactions)
    wrapped = worker.wrap(model)
    optimizer = _optimizer(wrapped, job.training)
    data = examples(
        job.interactions,
        len(job.inputs.warm_users),
        worker.device,
        job.training.half_life,
        job.training.weighted,
    )
    restore(state, model, optimizer)
    candidates = _examples(data, job)
    drawn = _negatives(job, worker, len(data), len(candidates))
    while not _finished(state, job):
        negatives = _with_hard(drawn, job, model, state["epoch"])
        loss, seconds = _epoch(
            job, worker, wrapped, optimizer, data, candidates, negatives, state["epoch"]
        )
        measured = {"loss": loss, "seconds": seconds}
        state = _next_state(state, job, worker, model, measured)
        state["optimizer"] = optimizer.state_dict()
        worker.report(state["curve"][-1], state if worker.rank == 0 else None)
    return state


def _fit_at_once(
    state: dict[str, Any], job: Job, worker: Worker, model: TwoTowerModel
) -> dict[str, Any]:
    """Fit a tower that takes no steps, unless this is the state of one that is fitted."""
    if state["epoch"]:
        return state
    began = time.perf_counter()
    job.tower.fit(model, job.inputs, job.interactions, job.seed)
    state = _next_state(state, job, worker, model, {"seconds": time.perf_counter() - began})
    worker.report(state["curve"][-1], state if worker.rank == 0 else None)
    return state


def _epoch(
    job: Job,
    worker: Worker,
    model: nn.Module,
    optimizer: Any,
    data: Examples,
    candidates: Tensor,
    negatives: Negatives,
    epoch: int,
) -> tuple[float, float]:
    """Train for one epoch; return the mean loss over all workers and the seconds it took."""
    training = job.training
    steps = steps_per_epoch(
        len(candidates), training.batch_size, worker.size, training.epoch_examples
    )
    seed = job.seed * 1_000_003 + epoch
    # Dropout draws anew after a resume exactly as in an unbroken run.
    torch.manual_seed(seed * 1009 + worker.rank)
    total, began = torch.zeros((), device=worker.device), time.perf_counter()
    model.train()
    batches = epoch_batches(
        candidates, batch=training.batch_size, workers=worker.size, steps=steps, seed=seed
    )
    for step, index in enumerate(batches):
        _set_rate(optimizer, training, epoch + step / steps)
        batch = _batch(data, index, job, worker, seed)
        drawn = negatives.draw(batch, seed * 1_000_003 + step)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(worker.device.type, torch.bfloat16, enabled=worker.bfloat16):
            loss = batch_loss(model, job.loss, batch, drawn, negatives)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    mean = float(all_sum(total, worker.size)) / (steps * worker.size)
    _check_finite(mean, epoch, job)
    return mean, time.perf_counter() - began


def _check_finite(loss: float, epoch: int, job: Job) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} in epoch {epoch + 1}; lower train.learning_rate "
            f"({job.training.learning_rate}) or raise loss.temperature ({job.loss.temperature})"
        )


def _negatives(job: Job, worker: Worker, interactions: int, examples: int) -> Negatives:
    """Return what draws the negatives, none of them hard."""
    step = min(job.training.batch_size * worker.size, examples)
    rows = max(1, interactions * step // examples)
    n_items = len(job.inputs.warm_items)
    return Negatives.of(job.loss, job.interactions.item, n_items, rows, worker.device)


def _with_hard(negatives: Negatives, job: Job, model: TwoTowerModel, epoch: int) -> Negatives:
    """Return the same with the hard negatives of an epoch, where the loss has any."""
    # Before the first epoch the towers rank at random.
    if not isinstance(job.loss, PairLoss) or not job.loss.hard or not epoch:
        return negatives
    size = min(job.loss.hard_pool, len(negatives.catalogue))
    return replace(negatives, pool=hard_pool(model, job.inputs, job.interactions, size))


def _examples(data: Examples, job: Job) -> Tensor:
    """Return the examples of an epoch: interactions, users, or windows of interactions."""
    if job.training.examples == "users":
        return data.starts.diff().nonzero().flatten()
    if not job.tower.sequential:
        return torch.arange(len(data), device=data.users.device)
    found = windows(data, job.tower.history)
    if not len(found):
        raise ValueError(
            "a tower that learns from sequences needs users with 2 training interactions or more; "
            "found none: choose another tower, or another split"
        )
    return found


def _batch(data: Examples, step: Tensor, job: Job, worker: Worker, seed: int) -> Batch:
    """Return this worker's share of the examples `[W B]` of a step."""
    if job.tower.sequential:
        return window_batch(data, step, worker.rank, worker.size, job.tower.history)
    drawn = job.tower.history and not job.tower.graph
    length = job.training.context_length if drawn else 0
    if job.training.examples == "users":
        return user_batch(data, step, worker.rank, worker.size, length, seed)
    index, length = step.chunk(worker.size)[worker.rank], max(1, length)
    if job.training.context == "before":
        history = history_before(data, index, length)
    else:
        history = history_sample(data, index, length, seed)
    own = slice(worker.rank * len(index), (worker.rank + 1) * len(index))
    weights = None if data.weights is None else data.weights[index]
    step_items = data.items[step].long()
    return Batch(data.users[index].long(), history, step_items, own, weights=weights)


def batch_loss(
    model: nn.Module, loss: Loss, batch: Batch, drawn: Tensor | None, negatives: Negatives
) -> Tensor:
    """Return the mean loss over this worker's positives, in its share of that over all of them.

    Drawn are `[M]` for all of them, or `[B, n]` for each its own; in-batch losses score all
    workers' positives, and what is drawn beside them. Each worker encodes the positives of all of
    them itself, which is less work than to score them, and waits for nobody. Their gradients meet
    in the average that DDP takes, so that each step is that of one worker with the whole batch.
    """
    beside = batch.step_items if loss.in_batch else batch.items
    wanted = beside if drawn is None else torch.cat([beside, drawn.flatten()])
    users, items = model(batch.users, batch.history, wanted)
    if loss.in_batch or drawn is None:
        ids, positives, others = wanted, items[batch.own], items
    else:
        positives, others = items.split([len(beside), drawn.numel()])
        ids, others = drawn, others.unflatten(0, drawn.shape)
    hits, log_q = (batch.items, ids), negatives.log_q
    shares = None if log_q is None else (log_q[batch.items], log_q[ids])
    rest = batch.weights, len(negatives.catalogue), head_of(model), batch.rows
    return batch.share * loss(Scored(users, positives, others, hits, shares, *rest))


def _next_state(
    state: dict[str, Any],
    job: Job,
    worker: Worker,
    model: TwoTowerModel,
    measured: dict[str, float],
) -> dict[str, Any]:
    """Return the state after an epoch, with what it measured and the weights to keep so far."""
    row: dict[str, Any] = {"epoch": state["epoch"] + 1, **measured}
    best, peak = state["best"], _peak(state["curve"])
    # A tower may settle its tables as training ends, and what is kept is what is used.
    model.eval()
    if job.validation is not None:
        row["ndcg"] = validation_ndcg(model, job, worker)
    if peak is None or row["ndcg"] >= peak["ndcg"] * (1 - job.training.tolerance):
        weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        best = {"epoch": row["epoch"], "ndcg": row.get("ndcg"), "weights": weights}
    return {
        "epoch": row["epoch"],
        "best": best,
        "curve": [*state["curve"], row],
        "model": model.state_dict(),
    }


def _finished(state: dict[str, Any], job: Job) -> bool:
    epoch, peak = state["epoch"], _peak(state["curve"])
    if job.stop_after is not None:
        return bool(epoch >= job.stop_after)
    stale = peak is not None and epoch - peak["epoch"] >= job.training.patience
    return bool(epoch >= job.training.epochs or stale)


def _peak(curve: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first epoch with the best validation NDCG@10; None where none was validated."""
    return max((row for row in curve if "ndcg" in row), key=lambda row: row["ndcg"], default=None)


def _optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,
    )


def _set_rate(optimizer: torch.optim.Optimizer, training: Training, epochs_done: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = training.learning_rate * (1 - epochs_done / training.epochs)

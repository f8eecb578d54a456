"""One epoch on each worker: batches, forward, loss, backward, step."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from train.losses.base import Loss, LossInputs
from train.losses.pairwise import PairLoss
from train.ops.seeds import WORKERS, mix
from train.towers.batches import Batch, Examples, Sampling
from train.towers.model import TwoTowerModel
from train.towers.weights import head_of
from train.trainer.checkpoint import Within
from train.trainer.examples import epoch_batches, examples, steps_per_epoch
from train.trainer.job import Job, Training, Worker
from train.trainer.negatives import Negatives, hard_pool
from train.trainer.optimizers import Optimizers, leave_to_rowwise
from train.trainer.validation import all_sum

# Steps after which it is looked whether an epoch is to be kept as far as it is: some seconds.
PART = 500
# Seeds are below it.
TOP = 2**63


@dataclass(frozen=True)
class Setup:
    """Everything that an epoch needs, made once for a training.

    Attributes:
        job: settings, data and seed.
        worker: where this is trained.
        model: the module as the worker wraps it: its gradients are averages over all workers.
        optimizer: of its weights.
        data: the training interactions on the device.
        examples: indices of the examples of an epoch, `[E]`; see `batches`.
        negatives: samples the negatives of each step.
    """

    job: Job
    worker: Worker
    model: nn.Module
    optimizer: Optimizers
    data: Examples
    examples: Tensor
    negatives: Negatives

    @classmethod
    def of(cls, job: Job, worker: Worker, model: TwoTowerModel) -> Self:
        """Wrap a module and move the interactions to its device."""
        training = job.training
        n_users, n_items = len(job.inputs.warm_users), len(job.inputs.warm_items)
        rowwise = job.rowwise
        # DDP takes no module of which it is to average nothing.
        wrapped = model if rowwise and not leave_to_rowwise(model) else worker.wrap(model)
        optimizer = Optimizers(model, job.schedule, training.optimizer, rowwise, worker.size)
        data = examples(
            job.interactions, n_users, worker.device, training.half_life, training.weighted
        )
        chosen = job.tower.training_examples(data, training.examples)
        # An example may have several positives; log q is that of the positives of a step.
        step = min(job.schedule.batch_size * worker.size, len(chosen))
        rows = max(1, len(data) * step // len(chosen))
        negatives = Negatives.of(job.loss, job.interactions.item, n_items, rows, worker.device)
        return cls(job, worker, wrapped, optimizer, data, chosen, negatives)


Keep = Callable[[Within, int], None]
"""Keeps how far an epoch is, of so many steps."""


def train_epoch(
    setup: Setup, epoch: int, begun: Within | None = None, keep: Keep | None = None
) -> dict[str, float]:
    """Train for one epoch, numbered from 0; return its mean `loss` over all workers, and `seconds`.

    Args:
        setup: what is trained.
        epoch: its number.
        begun: how far it was when it was broken off.
        keep: called now and then with how far it is, by all workers at the same step.

    Raises:
        ValueError: the loss is no longer finite.
    """
    job, worker = setup.job, setup.worker
    size, limit = job.schedule.batch_size, job.training.epoch_examples
    steps = steps_per_epoch(len(setup.examples), size, worker.size, limit)
    within = begun or Within(steps=0, loss=0.0, seconds=0.0)
    clock = _Clock(worker, time.perf_counter() - within["seconds"])
    seed, left = mix(job.seed, epoch), range(within["steps"], steps)
    batches = epoch_batches(setup.examples, batch=size, workers=worker.size, steps=left, seed=seed)
    setup.model.train()
    for begin in left[::PART]:
        part = range(begin, min(begin + PART, steps))
        loss = within["loss"] + _train_part(setup, batches, seed, part, epoch, steps)
        within = Within(steps=part.stop, loss=loss, seconds=clock.seconds())
        if keep and part.stop < steps and clock.is_due():
            keep(within, steps)
    setup.optimizer.settle()
    mean = within["loss"] / (steps * worker.size)
    _check_finite(mean, epoch, job)
    return {"loss": mean, "seconds": clock.seconds()}


def _train_part(
    setup: Setup, batches: Iterator[Tensor], seed: int, part: range, epoch: int, steps: int
) -> float:
    """Take some steps of an epoch; return the sum of their losses over all workers."""
    job, worker = setup.job, setup.worker
    sampling = _sampling(job.training, worker, seed)
    # Dropout draws anew after a resume exactly as in an unbroken run.
    begun = mix(seed, part.start) if part.start else seed
    torch.manual_seed(mix(begun, worker.rank, base=WORKERS) % TOP)
    total = torch.zeros((), device=worker.device)
    for step in part:
        # A line over all epochs, whichever of them is the last: a refit has the rates of the epochs
        # that it repeats.
        done = (epoch + step / steps) / job.schedule.epochs
        setup.optimizer.set_rate(job.schedule.learning_rate * (1 - done))
        batch = job.tower.training_batch(setup.data, next(batches), sampling)
        total += _step(setup, batch, mix(seed, step))
    return float(all_sum(total, worker.size))


class _Clock:
    """The time of an epoch, and whether it is time to keep how far it is: rank 0 decides."""

    def __init__(self, worker: Worker, begun: float) -> None:
        self._worker, self._begun, self._kept = worker, begun, time.perf_counter()

    def seconds(self) -> float:
        """Return how long the epoch has taken."""
        return time.perf_counter() - self._begun

    def is_due(self) -> bool:
        """Whether the last time is long enough ago."""
        worker, now = self._worker, time.perf_counter()
        if worker.pause is None:
            return False
        due = worker.rank == 0 and now - self._kept >= worker.pause
        told = all_sum(torch.tensor(int(due), device=worker.device), worker.size)
        self._kept = now if told else self._kept
        return bool(told)


def _step(setup: Setup, batch: Batch, seed: int) -> Tensor:
    """Take one step of the optimizer; return the loss of this worker's positives, a scalar."""
    worker, negatives = setup.worker, setup.negatives
    drawn = negatives.draw(batch, seed)
    setup.optimizer.zero_grad()
    with torch.autocast(worker.device.type, torch.bfloat16, enabled=worker.bfloat16):
        loss = batch_loss(setup.model, setup.job.loss, batch, drawn, negatives)
    loss.backward()
    setup.optimizer.step()
    return loss.detach()


def _check_finite(loss: float, epoch: int, job: Job) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} in epoch {epoch + 1}; lower train.learning_rate "
            f"({job.schedule.learning_rate}) or raise loss.temperature ({job.loss.temperature})"
        )


def with_hard(negatives: Negatives, job: Job, model: TwoTowerModel, epoch: int) -> Negatives:
    """Return the negatives with a pool of hard ones for an epoch, where the loss has any."""
    # Before the first epoch the towers rank at random, so that no item is harder than another.
    if not isinstance(job.loss, PairLoss) or not job.loss.hard or not epoch:
        return negatives
    size = min(job.loss.hard_pool, len(negatives.catalogue))
    return replace(negatives, pool=hard_pool(model, job.inputs, job.interactions, size))


def _sampling(training: Training, worker: Worker, seed: int) -> Sampling:
    return Sampling(
        rank=worker.rank,
        workers=worker.size,
        seed=seed,
        unit=training.examples,
        context=training.context,
        context_length=training.context_length,
    )


def batch_loss(
    model: nn.Module, loss: Loss, batch: Batch, drawn: Tensor | None, negatives: Negatives
) -> Tensor:
    """Return the mean loss over this worker's positives, scaled to its part in that over all.

    In-batch losses score the positives of all workers, and the drawn negatives in addition. Each
    worker encodes all of these itself, which is less work than to score them, and waits for nobody.
    The gradients meet in the average that DDP takes, so that each step is that of one worker with
    the whole batch.

    Args:
        model: as the worker wraps it.
        loss: settings of the loss.
        batch: this worker's part of the step.
        drawn: sampled negatives, `[M]` for all positives or `[B, n]`, n for each; None for none.
        negatives: that sampled them.
    """
    positive_ids = batch.global_items if loss.in_batch else batch.items
    item_ids = positive_ids if drawn is None else torch.cat([positive_ids, drawn.flatten()])
    users, items = model(batch.users, batch.history, item_ids)
    if loss.in_batch or drawn is None:
        positives, negative_vectors, negative_ids = items[batch.local], items, item_ids
    else:
        positives, sampled = items.split([len(positive_ids), drawn.numel()])
        negative_vectors, negative_ids = sampled.unflatten(0, drawn.shape), drawn
    log_q = negatives.log_q
    inputs = LossInputs(
        users=users,
        positives=positives,
        negatives=negative_vectors,
        positive_ids=batch.items,
        negative_ids=negative_ids,
        positive_log_q=None if log_q is None else log_q[batch.items],
        negative_log_q=None if log_q is None else log_q[negative_ids],
        weight=batch.weights,
        catalogue=len(negatives.catalogue),
        head=head_of(model),
        rows=batch.rows,
    )
    return batch.loss_scale * loss(inputs)

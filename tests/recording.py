"""Training as it went: what each step was given, its rate, and its gradient.

It watches from outside, by hooks of torch and by what a worker may hand to `train`, so that it says
nothing about how the loop is written.
"""

from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.training import events, make_job, plain_inputs
from train.core.schema import Interactions
from train.losses.pairwise import BPR
from train.towers.two_tower import TwoTower
from train.trainer.checkpoint import State, checkpoint_bytes
from train.trainer.job import Job, Worker
from train.trainer.loop import train

N_USERS, N_ITEMS, EACH = 16, 24, 8
COUNT = N_USERS * EACH
"""Interactions of `pairs_job`; batches of 16 make 8 full steps of them."""


@dataclass(frozen=True)
class Step:
    """One step of the optimizer.

    Attributes:
        epoch: from 1.
        rate: the learning rate.
        decay: the weight decay.
        users: of the batch, `[B]`.
        history: that describes them, `[B, h]`.
        items: whose vectors were asked for: positives, and then what was drawn.
        gradient: of all parameters, `[P]`.
        dropped: where each layer of dropout gave 0, in the order in which they were called.
    """

    epoch: int
    rate: float
    decay: float
    users: Tensor
    history: Tensor
    items: Tensor
    gradient: Tensor
    dropped: tuple[Tensor, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """User and item of each positive, where an example is an interaction."""
        return list(zip(self.users.tolist(), self.items.tolist(), strict=False))

    @property
    def negatives(self) -> Tensor:
        """What was drawn beside the positives of the batch, of losses that draw."""
        return self.items[len(self.users) :]


@dataclass
class Recorder:
    """Records what is trained while it is entered, by a worker that is `worker`.

    Attributes:
        worker: the worker; train with `watched`.
        steps: in order.
        checkpoints: the content of one after each epoch.
        metrics: of each epoch.
    """

    worker: Worker = field(default_factory=Worker)
    steps: list[Step] = field(default_factory=list)
    checkpoints: list[bytes] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> "Recorder":
        self._given: list[tuple[Tensor, ...]] = []
        self._dropped: list[Tensor] = []
        self._hook = register_optimizer_step_pre_hook(self._before_step)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hook.remove()

    @property
    def watched(self) -> Worker:
        """The worker, as it is to be trained with."""
        return replace(self.worker, wrap=self._wrap, report=self._report)

    def epoch(self, number: int) -> list[Step]:
        """Return the steps of an epoch, from 1."""
        return [step for step in self.steps if step.epoch == number]

    def _wrap(self, model: nn.Module) -> nn.Module:
        self._model = model
        model.register_forward_pre_hook(lambda _model, given: self._given.append(given))
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.register_forward_hook(self._after_dropout)
        return self.worker.wrap(model)

    def _after_dropout(self, part: nn.Module, given: Any, output: Tensor) -> None:
        if part.training:
            self._dropped.append(output.detach() == 0)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._given:  # the other optimizer of the same step
            return
        [group] = optimizer.param_groups
        found = [
            torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
            for p in self._model.parameters()
        ]
        users, history, items = (part.clone() for part in self._given[-1])
        step = Step(
            epoch=len(self.metrics) + 1,
            rate=group["lr"],
            decay=group["weight_decay"],
            users=users,
            history=history,
            items=items,
            gradient=torch.cat([part.flatten() for part in found]).clone(),
            dropped=tuple(self._dropped),
        )
        self.steps.append(step)
        self._given.clear()
        self._dropped.clear()

    def _report(self, metrics: dict[str, Any], state: State | None) -> None:
        self.metrics.append(metrics)
        if state is not None:
            self.checkpoints.append(checkpoint_bytes(state))
        self.worker.report(metrics, state)


@dataclass(frozen=True)
class Recording:
    """What `record` returns: the recorder, and the last state of the training."""

    recorder: Recorder
    state: State

    @property
    def steps(self) -> list[Step]:
        """All of them, in order."""
        return self.recorder.steps

    def epoch(self, number: int) -> list[Step]:
        """Return the steps of an epoch, from 1."""
        return self.recorder.epoch(number)


def record(job: Job, worker: Worker | None = None, state: State | None = None) -> Recording:
    """Train a job, from a state if one is given, and return how it went."""
    with Recorder(worker or Worker()) as recorder:
        return Recording(recorder, train(job, recorder.watched, state))


def pairs() -> Interactions:
    """Return 8 items of each of 16 users, none twice; popular ones more often, the last never."""
    draw = np.random.default_rng(0)
    share = 1.0 / np.arange(1, N_ITEMS)
    items = [
        draw.choice(N_ITEMS - 1, EACH, replace=False, p=share / share.sum()) for _ in range(N_USERS)
    ]
    return events(np.repeat(np.arange(N_USERS), EACH), np.concatenate(items))


def pairs_job(**changes: Any) -> Job:
    """Return a job over `pairs`, whose towers know ids alone; `changes` are those of `make_job`."""
    known = pairs()
    inputs = plain_inputs(N_USERS, N_ITEMS)
    warm = np.bincount(known.item, minlength=N_ITEMS) > 0
    values: dict[str, Any] = {
        "tower": TwoTower(width=4, history=0),
        "loss": BPR(count=4),
        "inputs": replace(inputs, warm_items=warm),
        "interactions": known,
        "batch_size": 16,
        "epochs": 3,
    }
    return make_job(**(values | changes))

"""Inputs of a training: its job (settings, data, validation), and the worker that it runs on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from train.core.hashing import digest
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions, Seen
from train.core.settings import Settings
from train.data.snapshot import TowerInputs
from train.losses.base import Loss
from train.towers.base import Tower
from train.trainer.checkpoint import State
from train.trainer.optimizers import Name, is_rowwise
from train.trainer.schedule import Schedule


class Training(Settings):
    """How towers are trained.

    Attributes:
        workers: Ray Train workers; 0 trains in the driver's own process.
        gpu: one GPU a worker; "auto" takes them where the cluster has them.
        threads: torch threads a worker; 0 shares the CPUs that this machine
            may use among the workers on it.
        examples: "interactions"; or "users" with all their interactions, whose scores are computed
            once for all positives of a user. For a tower with a history, a random half of a user's
            interactions is the history, and the others are the positives. history_transformer has
            examples of its own, whole histories, and learns from every item of one.
        batch_size: examples a worker and step; by default by the number of examples.
        epochs: at the most; the learning rate falls linearly to 0 over them. By default so many
            that some millions of examples are seen.
        epoch_examples: cut an epoch at so many examples; all by default.
        validation_users: rank for so many users of the validation holdout after each epoch, the
            same ones each time; all where they are fewer.
        patience: stop after so many epochs without a better validation NDCG@10; 3 by default.
        tolerance: share of the best NDCG@10 by which a later epoch may be worse and still be kept:
            its learning rate is lower, and smaller differences are noise.
        optimizer: "adamw" (Loshchilov and Hutter 2019) of all weights; or of all but the id tables,
            of which a step changes the rows of its batch alone: "rowwise_adam", without momentum,
            or "rowwise_adagrad", for which rates are some ten times as high. "auto" takes
            rowwise_adam where users and items together are a quarter of a million or more.
        learning_rate: of the optimizer; by default by the number of examples.
        weight_decay: of the optimizer; it pulls rare users and items towards zero. By default by
            the number of examples.
        context: history of the user of an interaction: "all" the other items of the user, or only
            those "before" it; history_transformer always learns from those before.
        context_length: length of that history: items drawn (all), or the newest ones (before).
        half_life: days after which an interaction weighs half of a new one in the loss, for
            catalogues whose users' tastes drift; all weigh the same by default.
        weighted: an interaction counts in the loss in proportion to its weight (`data.weight`: a
            rating, say), beside `half_life`; all count the same by default.
        wait: for nodes to join, or an autoscaler's, where the workers do not fit those that there
            are; such a run is refused otherwise.
        max_failures: workers lost before the run gives up; each time it resumes at the last
            checkpoint.
        checkpoint_minutes: after so long within an epoch it is kept how far the epoch is, beside
            what is kept after each. (Not with hard negatives, which an epoch begins with.)
    """

    workers: int = Field(default=1, ge=0)
    gpu: bool | Literal["auto"] = "auto"
    threads: int = Field(default=0, ge=0)
    examples: Literal["interactions", "users"] = "interactions"
    batch_size: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    epoch_examples: int | None = Field(default=None, ge=1)
    validation_users: int | None = Field(default=50_000, ge=1)
    patience: int | None = Field(default=None, ge=1)
    tolerance: float = Field(default=0.01, ge=0, lt=1)
    optimizer: Name = "auto"
    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    context: Literal["all", "before"] = "all"
    context_length: int = Field(default=50, ge=1)
    half_life: float | None = Field(default=None, gt=0)
    weighted: bool = False
    wait: bool = False
    max_failures: int = Field(default=2, ge=0)
    checkpoint_minutes: float = Field(default=10.0, ge=0)

    def settled(self, examples: int) -> "Training":
        """Return these settings with those that are left open filled in.

        Args:
            examples: of an epoch.
        """
        return self.model_copy(update=asdict(Schedule.of(self, examples, self.workers)))


# Settings of how the work is shared out and kept, which change no weight.
AROUND = ("threads", "wait", "max_failures", "checkpoint_minutes")


@dataclass(frozen=True)
class Validation:
    """Users whose whole-catalogue ranking decides when to stop.

    Attributes:
        users: int32 `[V]`.
        histories: items of each before the holdout, oldest first.
        relevant: items of each within the holdout, the ground truth.
        catalogue: whether an item is ranked, bool `[I]`.
        seen: whether items of the histories are ranked, or nothing else.
        hidden: items of each that are not ranked in any case; None for none.
    """

    users: Array
    histories: Ragged
    relevant: Ragged
    catalogue: Array
    seen: Seen = "exclude"
    hidden: Ragged | None = None


@dataclass(frozen=True)
class Job:
    """A training of towers on a snapshot, the same for every worker.

    Attributes:
        tower: settings of the architecture.
        loss: settings of the loss.
        training: settings of the loop.
        seed: of the initial weights and of every draw.
        inputs: attributes and warmth of users and items.
        interactions: to learn from, ordered by user and time.
        validation: users whose ranking stops the training; None for none.
        stop_after: train exactly so many epochs, without validation (a refit).
    """

    tower: Tower
    loss: Loss
    training: Training
    seed: int
    inputs: TowerInputs
    interactions: Interactions
    validation: Validation | None = None
    stop_after: int | None = None

    @cached_property
    def identity(self) -> str:
        """A sha256 over what decides the weights: settings, seed and interactions."""
        training = self.training.model_dump(mode="json", exclude={*AROUND})
        training["workers"] = max(1, self.training.workers)
        settings = [part.model_dump(mode="json") for part in (self.tower, self.loss)]
        sha = hashlib.sha256(json.dumps([*settings, training, self.seed]).encode())
        rows = self.interactions
        for array in (rows.user, rows.item, rows.timestamp, rows.weight, rows.role):
            if array is not None:
                digest(sha, array)
        return sha.hexdigest()

    @property
    def rowwise(self) -> bool:
        """Whether id tables are stepped by rows."""
        users, items = len(self.inputs.warm_users), len(self.inputs.warm_items)
        rows = users * self.tower.user_id + items * self.tower.item_id
        return is_rowwise(self.training.optimizer, rows, self.tower.looks_rows_up())

    @cached_property
    def schedule(self) -> Schedule:
        """Steps, epochs and rate, where they are left open by the examples of this very job."""
        examples = self.tower.count_examples(self.interactions, self.training.examples)
        return Schedule.of(self.training, examples, self.training.workers)


@dataclass(frozen=True)
class Worker:
    """One of the workers that train together.

    Attributes:
        rank: from 0.
        size: number of workers.
        device: of the module and of the batches.
        report: called after each epoch with the metrics and the state to keep (rank 0) or None;
            and within one, with the number of steps done as `step`, of `steps`.
        pause: seconds between states within an epoch; None for none.
        wrap: makes the module's gradients the average over all workers.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Callable[[dict[str, Any], State | None], None] = lambda metrics, state: None
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    pause: float | None = None

    @property
    def bfloat16(self) -> bool:
        """Whether products are computed in bfloat16, as GPUs do it fast."""
        return self.device.type == "cuda"

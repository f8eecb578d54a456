"""Softmax losses: in-batch, sampled and full."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from train.losses.base import Loss
from train.losses.sampling import uniform


class InBatchSoftmax(Loss):
    """Softmax over the positives of the whole batch, of all workers (Yi et al. 2019).

    Attributes:
        correct_log_q: subtract the log of how often each item is among the negatives.
        uniform: negatives drawn uniformly in addition to the batch's items, so that rare ones are
            among them too (mixed negative sampling; Yang et al. 2020).
    """

    name: Literal["in_batch_softmax"] = "in_batch_softmax"
    correct_log_q: bool = True
    uniform: int = Field(default=0, ge=0)

    @property
    def in_batch(self) -> bool:
        """True: the batch is its own negatives."""
        return True

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """Uniform negatives in addition to the batch's items, if any."""
        return uniform(catalogue, self.uniform, seed) if self.uniform else None

    def log_q(self, frequency: Tensor, rows: int) -> Tensor | None:
        """Log of each item's expected count among a step's negatives, over its rows, `[I]`."""
        if not self.correct_log_q:
            return None
        in_batch = frequency.clamp(min=1) / frequency.sum()
        drawn = self.uniform / rows / frequency.count_nonzero()
        return torch.log(in_batch + drawn)


class SampledSoftmax(Loss):
    """Softmax over the positive and `count` uniform negatives, shared by the batch.

    A uniform q is the same for every item and cancels, so there is nothing to correct.

    Attributes:
        count: negatives M.
    """

    name: Literal["sampled_softmax"] = "sampled_softmax"
    count: int = Field(default=256, ge=1)

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """`count` items drawn uniformly with replacement."""
        return uniform(catalogue, self.count, seed)


class FullSoftmax(Loss):
    """Softmax over the whole catalogue: exact, and O(B x I) a step.

    Of towers that score pairs by layers, memory is O(B x I x width) too.
    """

    name: Literal["full_softmax"] = "full_softmax"

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """The whole catalogue; the column of the positive itself is masked."""
        return catalogue

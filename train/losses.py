"""Losses over inner products of user and item vectors, and the negatives that each one asks for.

Shapes: B positives on this worker, M negatives scored against each, d width, I items.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from train.settings import Settings
from train.softmax import softmax_loss


class Loss(Settings):
    """Settings of one loss.

    Attributes:
        temperature: scores are divided by it.
    """

    temperature: float = Field(default=1.0, gt=0)

    def negatives(self, catalogue: Tensor, seed: int) -> Tensor | None:
        """Return the items `[M]` scored beside the positives; None for those of the whole batch.

        Args:
            catalogue: items that may be drawn, `[n]`.
            seed: of this step, the same on every worker.
        """
        raise NotImplementedError

    def log_q(self, frequency: Tensor) -> Tensor | None:
        """Return log q of each item `[I]` from training frequencies `[I]`; None: not corrected."""
        return None

    def __call__(
        self,
        users: Tensor,
        positives: Tensor,
        negatives: Tensor,
        hits: tuple[Tensor, Tensor],
        log_q: tuple[Tensor, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of users `[B, d]`, positives `[B, d]` and negatives `[M, d]`.

        Args:
            users: `[B, d]`.
            positives: `[B, d]`.
            negatives: `[M, d]`.
            hits: items of the positives `[B]` and of the negatives `[M]`.
            log_q: the same for `log_q`, where it corrects.
            weight: of each positive, `[B]`.
        """
        return softmax_loss(users / self.temperature, positives, negatives, hits, log_q, weight)


class InBatchSoftmax(Loss):
    """Softmax over the positives of the whole batch, of all workers (Yi et al. 2019).

    Attributes:
        correct_log_q: subtract the log frequency of each item, which in-batch negatives follow.
    """

    name: Literal["in_batch_softmax"] = "in_batch_softmax"
    correct_log_q: bool = True

    def negatives(self, catalogue: Tensor, seed: int) -> Tensor | None:
        """None: the batch is its own negatives."""
        return None

    def log_q(self, frequency: Tensor) -> Tensor | None:
        """Log of the share of each item in the training interactions, `[I]`."""
        if not self.correct_log_q:
            return None
        return torch.log(frequency.clamp(min=1) / frequency.sum())


class SampledSoftmax(Loss):
    """Softmax over the positive and `count` uniform negatives, shared by the batch.

    A uniform q is the same for every item and cancels, so there is nothing to correct.

    Attributes:
        count: negatives M.
    """

    name: Literal["sampled_softmax"] = "sampled_softmax"
    count: int = Field(default=256, ge=1)

    def negatives(self, catalogue: Tensor, seed: int) -> Tensor | None:
        """`count` items drawn uniformly with replacement."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(catalogue), (self.count,), generator=generator)
        return catalogue[drawn.to(catalogue.device)]


class FullSoftmax(Loss):
    """Softmax over the whole catalogue: exact, and O(B x I) a step."""

    name: Literal["full_softmax"] = "full_softmax"

    def negatives(self, catalogue: Tensor, seed: int) -> Tensor | None:
        """The whole catalogue; the positive's own column is masked as a hit."""
        return catalogue


LOSSES: Mapping[str, type[Loss]] = {
    "in_batch_softmax": InBatchSoftmax,
    "sampled_softmax": SampledSoftmax,
    "full_softmax": FullSoftmax,
}

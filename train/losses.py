"""Losses over inner products of user and item vectors, and the negatives that each one asks for.

Shapes: B positives on this worker, M negatives scored against each, d width, I items.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from train.settings import Settings


def softmax_loss(
    positive_scores: Tensor,
    negative_scores: Tensor,
    *,
    hits: Tensor | None = None,
    positive_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each positive against its negatives, `-log softmax`, averaged over B.

    Every score is corrected to `score - log q`, q being the probability with which its item was
    drawn, so that the optimum is that of the softmax over the whole catalogue.

    Args:
        positive_scores: `[B]`.
        negative_scores: `[B, M]`.
        hits: bool `[B, M]`, negatives that are the positive itself (accidental hits); left out.
        positive_log_q: `[B]`; none for no correction.
        negative_log_q: `[M]`; none for no correction.
        weight: of each positive, `[B]`; all 1 by default.

    Returns:
        A scalar.

    References:
        Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
        RecSys 2019. Bengio and Senecal, Quick Training of Probabilistic Neural Nets, 2003.
    """
    if positive_log_q is not None and negative_log_q is not None:
        positive_scores = positive_scores - positive_log_q
        negative_scores = negative_scores - negative_log_q
    if hits is not None:
        # Where all are hits, -inf would have no gradient.
        negative_scores = negative_scores.masked_fill(hits, -1e9)
    # Passes over [B, M] are what training takes most of its time for: none to join both.
    others = negative_scores.logsumexp(dim=1)
    losses = torch.logaddexp(positive_scores, others) - positive_scores
    return (losses if weight is None else losses * weight).mean()


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
        hits: Tensor,
        positive_log_q: Tensor | None = None,
        negative_log_q: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of users `[B, d]`, positives `[B, d]` and negatives `[M, d]`."""
        users = users / self.temperature
        return softmax_loss(
            (users * positives).sum(1),
            users @ negatives.T,
            hits=hits,
            positive_log_q=positive_log_q,
            negative_log_q=negative_log_q,
            weight=weight,
        )


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

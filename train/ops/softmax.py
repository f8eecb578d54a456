"""Softmax cross-entropy over inner products, in blocks of rows that stay in the cache.

Shapes: B users and N positives on this worker, each user's own one (N = B) or several; M negatives
shared by all of them, d width.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.ops.tensors import rows_and_places

# Scores of one block: 0.5 MiB on a CPU, which a core's own cache holds, and 256 MiB on a GPU.
CPU_BLOCK, GPU_BLOCK = 2**17, 2**26

# Score of a masked negative: its exponential is 0, and where all are masked -inf would be nan.
MASKED = -1e9


@dataclass(frozen=True)
class SampleInfo:
    """Item ids, sampling probabilities, weights and users of the positives and negatives.

    Attributes:
        positive_ids: items of the positives, `[N]`.
        negative_ids: items of the negatives, `[M]`; a negative that is a positive of the same user
            (accidental hit) is masked. Without ids none is.
        positive_log_q: log of the probability with which each positive's item is sampled as a
            negative, `[N]`; None for no correction.
        negative_log_q: the same of the negatives, `[M]`.
        weight: of each positive, `[N]`; all 1 by default.
        rows: index of each positive's user, ascending `[N]`; by default each user has one.
    """

    positive_ids: Tensor | None = None
    negative_ids: Tensor | None = None
    positive_log_q: Tensor | None = None
    negative_log_q: Tensor | None = None
    weight: Tensor | None = None
    rows: Tensor | None = None


def softmax_loss(
    users: Tensor, positives: Tensor, negatives: Tensor, sample: SampleInfo | None = None
) -> Tensor:
    """Cross-entropy of each positive against the negatives, `-log softmax`, averaged over N.

    With scores `s = u . v`, the loss of one positive p is `log(exp(s_p) + sum_j exp(s_j)) - s_p`,
    or `softplus(log(sum_j exp(s_j)) - s_p)`: the sum is one for all positives of a user.
    Every score is corrected to `s - log q`, q being the probability with which its item was drawn,
    so that the optimum is that of the softmax over the whole catalogue. The scores `[B, M]` exist
    only block by block, and their gradient is taken in the same pass: memory is O((B + M) d).

    Args:
        users: `[B, d]`.
        positives: `[N, d]`.
        negatives: `[M, d]`.
        sample: their ids, log q, weights and users.

    Returns:
        A scalar.

    References:
        Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
        RecSys 2019. Bengio and Senecal, Quick Training of Probabilistic Neural Nets, 2003.
        Rabe and Staats, Self-attention Does Not Need O(n^2) Memory, 2021 (the blocks).
    """
    wide = torch.promote_types(users.dtype, torch.float32)
    sample, count, device = sample or SampleInfo(), len(positives), users.device
    if sample.weight is None:
        sample = replace(sample, weight=torch.ones(count, dtype=wide, device=device))
    if sample.rows is None:
        sample = replace(sample, rows=torch.arange(count, device=device))
    # A sum of thousands of exponentials needs float32, autocast or not.
    with torch.autocast(device.type, enabled=False):
        vectors = (part.to(wide) for part in (users, positives, negatives))
        loss: Tensor = _Softmax.apply(*vectors, sample)
    return loss


def softmax_of_scores(
    positive: Tensor, negative: Tensor, sample: SampleInfo | None = None
) -> Tensor:
    """`softmax_loss` of scores that layers have computed, all of them in memory.

    Args:
        positive: scores of the positives, `[N]`.
        negative: scores of the users with the negatives, `[B, M]`.
        sample: their ids, log q, weights and users.

    Returns:
        A scalar.
    """
    wide = torch.promote_types(positive.dtype, torch.float32)
    positive, negative = positive.to(wide), negative.to(wide)
    sample = sample or SampleInfo()
    rows = sample.rows
    rows = torch.arange(len(positive), device=positive.device) if rows is None else rows
    if sample.positive_log_q is not None and sample.negative_log_q is not None:
        positive, negative = positive - sample.positive_log_q, negative - sample.negative_log_q
    if sample.positive_ids is not None and sample.negative_ids is not None:
        hits = sample.positive_ids[:, None] == sample.negative_ids
        place, column = hits.nonzero(as_tuple=True)
        mask = torch.zeros_like(negative, dtype=torch.bool)
        mask[rows[place], column] = True
        negative = negative.masked_fill(mask, MASKED)
    losses = F.softplus(negative.logsumexp(1)[rows] - positive)
    return (losses if sample.weight is None else losses * sample.weight).mean()


class _Softmax(torch.autograd.Function):
    """The mean loss; its gradients are computed with it, and the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, positives: Tensor, negatives: Tensor, sample: SampleInfo
    ) -> Tensor:
        rows, weight = sample.rows, sample.weight
        assert rows is not None and weight is not None
        positive_users, hits = users[rows], _Hits.of(sample)
        positive = (positive_users * positives).sum(1)
        positive = positive if sample.positive_log_q is None else positive - sample.positive_log_q
        losses, slope = torch.empty_like(positive), torch.empty_like(positive)
        to_users, to_negatives = torch.empty_like(users), torch.zeros_like(negatives)
        for block, mine in _blocks(rows, users, len(negatives)):
            row = rows[mine] - block.start
            scores = users[block] @ negatives.T
            if sample.negative_log_q is not None:
                scores -= sample.negative_log_q
            if hits is not None:
                hits.mask(scores, mine, row)
            top = scores.amax(1)
            total = scores.sub_(top[:, None]).exp_().sum(1)
            excess = (total.log() + top)[row] - positive[mine]
            losses[mine] = F.softplus(excess)
            # The derivative of softplus: the probability that is not the positive's.
            slope[mine] = excess.sigmoid() * weight[mine] / len(rows)
            factor = (torch.zeros_like(total).index_add_(0, row, slope[mine]) / total)[:, None]
            to_users[block] = (scores @ negatives) * factor
            to_negatives.addmm_(scores.T, users[block] * factor)
        to_users.index_add_(0, rows, positives * -slope[:, None])
        ctx.save_for_backward(to_users, positive_users * -slope[:, None], to_negatives)
        return (losses * weight).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = (part * gradient for part in ctx.saved_tensors)
        return (*parts, None)


def _blocks(rows: Tensor, users: Tensor, columns: int) -> list[tuple[slice, slice]]:
    """Return the users of each block, and the positives of these users."""
    budget = GPU_BLOCK if users.device.type == "cuda" else CPU_BLOCK
    size = max(16, budget // max(1, columns))
    edges = torch.arange(0, len(users) + size, size).clamp(max=len(users))
    inner = torch.searchsorted(rows, edges.to(rows.device)).tolist()
    outer = edges.tolist()
    return [
        (slice(*pair), slice(*mine))
        for pair, mine in zip(pairwise(outer), pairwise(inner), strict=True)
    ]


@dataclass(frozen=True)
class _Hits:
    """Accidental hits: the negatives that are the item of a positive.

    Attributes:
        order: negatives sorted by item, `[M]`.
        first: of each positive, where the negatives of its item begin in `order`, `[N]`.
        count: of each positive, how many they are, `[N]`.
    """

    order: Tensor
    first: Tensor
    count: Tensor

    @classmethod
    def of(cls, sample: SampleInfo) -> "_Hits | None":
        """Find them by sorting the negatives: a mask of all pairs would be `[N, M]`."""
        ids, drawn = sample.positive_ids, sample.negative_ids
        if ids is None or drawn is None:
            return None
        ordered, order = drawn.sort()
        first = torch.searchsorted(ordered, ids)
        return cls(order, first, torch.searchsorted(ordered, ids, right=True) - first)

    def mask(self, scores: Tensor, positives: slice, row: Tensor) -> None:
        """Mask the hits of a block's positives in its scores, given the row of each of them."""
        first, count = self.first[positives], self.count[positives]
        place, within = rows_and_places(count)
        scores[row[place], self.order[first[place] + within]] = MASKED

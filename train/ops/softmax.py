"""Softmax cross-entropy over inner products, in blocks of rows that stay in the cache.

Shapes: B users and N positives on this worker, each user's own one (N = B) or several; M negatives
shared by all of them, d width.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.ops.tensors import rows_and_places

# Scores of one block: 0.5 MiB on a CPU, which a core's own cache holds, and 256 MiB on a GPU.
CPU_BLOCK, GPU_BLOCK = 2**17, 2**26

# Negatives in order of their items `[M]`; where those of each positive begin and how many, `[N]`.
Hits = tuple[Tensor, Tensor, Tensor]


def softmax_loss(
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    hits: tuple[Tensor, Tensor] | None = None,
    log_q: tuple[Tensor, Tensor] | None = None,
    weight: Tensor | None = None,
    rows: Tensor | None = None,
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
        hits: items of the positives `[N]` and of the negatives `[M]`; a negative that is a positive
            of the same user (accidental hit) is left out.
        log_q: of the positives `[N]` and of the negatives `[M]`; none for no correction.
        weight: of each positive, `[N]`; all 1 by default.
        rows: whose each positive is, ascending `[N]`; by default each user has one.

    Returns:
        A scalar.

    References:
        Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
        RecSys 2019. Bengio and Senecal, Quick Training of Probabilistic Neural Nets, 2003.
        Rabe and Staats, Self-attention Does Not Need O(n^2) Memory, 2021 (the blocks).
    """
    wide = torch.promote_types(users.dtype, torch.float32)
    count, device = len(positives), users.device
    weight = torch.ones(count, dtype=wide, device=device) if weight is None else weight
    rows = torch.arange(count, device=device) if rows is None else rows
    # A sum of thousands of exponentials needs float32, autocast or not.
    with torch.autocast(device.type, enabled=False):
        vectors = (part.to(wide) for part in (users, positives, negatives))
        found = None if hits is None else _find(*hits)
        loss: Tensor = _Softmax.apply(*vectors, found, log_q, weight, rows)
    return loss


def softmax_of_scores(
    own: Tensor,
    others: Tensor,
    hits: tuple[Tensor, Tensor],
    log_q: tuple[Tensor, Tensor] | None = None,
    weight: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """`softmax_loss` of scores that layers have made, all of them in memory.

    Args:
        own: scores of the positives, `[N]`.
        others: scores of the users with the negatives, `[B, M]`.
        hits: items of the positives `[N]` and of the negatives `[M]`.
        log_q: of the positives `[N]` and of the negatives `[M]`.
        weight: of each positive, `[N]`.
        rows: whose each positive is, ascending `[N]`; by default each user has one.

    Returns:
        A scalar.
    """
    wide = torch.promote_types(own.dtype, torch.float32)
    own, others = own.to(wide), others.to(wide)
    rows = torch.arange(len(own), device=own.device) if rows is None else rows
    if log_q is not None:
        own, others = own - log_q[0], others - log_q[1]
    positive, column = (hits[0][:, None] == hits[1]).nonzero(as_tuple=True)
    taken = torch.zeros_like(others, dtype=torch.bool)
    taken[rows[positive], column] = True
    # Where all are hits, -inf would be nan.
    total = others.masked_fill(taken, -1e9).logsumexp(1)
    losses = F.softplus(total[rows] - own)
    return (losses if weight is None else losses * weight).mean()


class _Softmax(torch.autograd.Function):
    """The mean loss; the gradients are ready when it is, and only wait for a factor."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        positives: Tensor,
        negatives: Tensor,
        hits: Hits | None,
        log_q: tuple[Tensor, Tensor] | None,
        weight: Tensor,
        rows: Tensor,
    ) -> Tensor:
        whose = users[rows]
        own = (whose * positives).sum(1)
        own = own if log_q is None else own - log_q[0]
        losses, wrong = torch.empty_like(own), torch.empty_like(own)
        to_users, to_negatives = torch.empty_like(users), torch.zeros_like(negatives)
        for block, mine in _blocks(rows, users, len(negatives)):
            row = rows[mine] - block.start
            scores = users[block] @ negatives.T
            if log_q is not None:
                scores -= log_q[1]
            if hits is not None:
                positive, column = _places(hits, mine)
                # Where all are hits, -inf would be nan.
                scores[row[positive], column] = -1e9
            top = scores.amax(1)
            total = scores.sub_(top[:, None]).exp_().sum(1)
            excess = (total.log() + top)[row] - own[mine]
            losses[mine] = F.softplus(excess)
            wrong[mine] = excess.sigmoid() * weight[mine] / len(rows)
            share = (torch.zeros_like(total).index_add_(0, row, wrong[mine]) / total)[:, None]
            to_users[block] = (scores @ negatives) * share
            to_negatives.addmm_(scores.T, users[block] * share)
        to_users.index_add_(0, rows, positives * -wrong[:, None])
        ctx.save_for_backward(to_users, whose * -wrong[:, None], to_negatives)
        return (losses * weight).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = (part * gradient for part in ctx.saved_tensors)
        return (*parts, None, None, None, None)


def _blocks(rows: Tensor, users: Tensor, columns: int) -> list[tuple[slice, slice]]:
    """Return the users of each block, and the positives that are theirs."""
    budget = GPU_BLOCK if users.device.type == "cuda" else CPU_BLOCK
    size = max(16, budget // max(1, columns))
    edges = torch.arange(0, len(users) + size, size).clamp(max=len(users))
    inner = torch.searchsorted(rows, edges.to(rows.device)).tolist()
    outer = edges.tolist()
    return [
        (slice(*pair), slice(*mine))
        for pair, mine in zip(pairwise(outer), pairwise(inner), strict=True)
    ]


def _find(wanted: Tensor, items: Tensor) -> Hits:
    ordered, order = items.sort()
    first = torch.searchsorted(ordered, wanted)
    return order, first, torch.searchsorted(ordered, wanted, right=True) - first


def _places(hits: Hits, mine: slice) -> tuple[Tensor, Tensor]:
    """Return positive and column of a block's hits; they are too few for a mask of its size."""
    order, first, count = hits[0], hits[1][mine], hits[2][mine]
    positive, within = rows_and_places(count)
    return positive, order[first[positive] + within]

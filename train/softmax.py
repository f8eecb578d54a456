"""Softmax cross-entropy over inner products, in blocks of rows that stay in the cache.

Shapes: B positives on this worker, M negatives shared by all of them, d width.
"""

from typing import Any

import torch
from torch import Tensor

# Scores of one block: 0.5 MiB on a CPU, which a core's own cache holds, and 256 MiB on a GPU.
CPU_BLOCK, GPU_BLOCK = 2**17, 2**26

# Negatives in order of their items `[M]`; where those of each positive begin and how many, `[B]`.
Hits = tuple[Tensor, Tensor, Tensor]


def softmax_loss(
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    hits: tuple[Tensor, Tensor] | None = None,
    log_q: tuple[Tensor, Tensor] | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each positive against the negatives, `-log softmax`, averaged over B.

    With scores `s = u . v`, the loss of one positive p is `log(exp(s_p) + sum_j exp(s_j)) - s_p`.
    Every score is corrected to `s - log q`, q being the probability with which its item was drawn,
    so that the optimum is that of the softmax over the whole catalogue. The scores `[B, M]` exist
    only block by block, and their gradient is taken in the same pass: memory is O((B + M) d).

    Args:
        users: `[B, d]`.
        positives: `[B, d]`.
        negatives: `[M, d]`.
        hits: items of the positives `[B]` and of the negatives `[M]`; a negative that is the
            positive itself (accidental hit) is left out.
        log_q: of the positives `[B]` and of the negatives `[M]`; none for no correction.
        weight: of each positive, `[B]`; all 1 by default.

    Returns:
        A scalar.

    References:
        Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
        RecSys 2019. Bengio and Senecal, Quick Training of Probabilistic Neural Nets, 2003.
        Rabe and Staats, Self-attention Does Not Need O(n^2) Memory, 2021 (the blocks).
    """
    wide = torch.promote_types(users.dtype, torch.float32)
    weight = torch.ones(len(users), dtype=wide, device=users.device) if weight is None else weight
    # A sum of thousands of exponentials needs float32, autocast or not.
    with torch.autocast(users.device.type, enabled=False):
        vectors = (part.to(wide) for part in (users, positives, negatives))
        found = None if hits is None else _find(*hits)
        loss: Tensor = _Softmax.apply(*vectors, found, log_q, weight)
    return loss


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
    ) -> Tensor:
        own = (users * positives).sum(1)
        own = own if log_q is None else own - log_q[0]
        losses, to_own = torch.empty_like(own), torch.empty_like(own)
        to_users, to_negatives = torch.empty_like(users), torch.zeros_like(negatives)
        for rows in _blocks(len(users), len(negatives), users.device):
            scores = users[rows] @ negatives.T
            if log_q is not None:
                scores -= log_q[1]
            if hits is not None:
                # Where all are hits, -inf would be nan.
                scores[_places(hits, rows)] = -1e9
            top = torch.maximum(scores.amax(1), own[rows])
            first = (own[rows] - top).exp()
            scores.sub_(top[:, None]).exp_()
            others = scores.sum(1)
            losses[rows] = (first + others).log() + top - own[rows]
            share = weight[rows] / (first + others) / len(users)
            to_own[rows] = -share * others
            to_users[rows] = (scores @ negatives) * share[:, None]
            to_negatives.addmm_(scores.T, users[rows] * share[:, None])
        to_users.addcmul_(positives, to_own[:, None])
        ctx.save_for_backward(to_users, users * to_own[:, None], to_negatives)
        return (losses * weight).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = (part * gradient for part in ctx.saved_tensors)
        return (*parts, None, None, None)


def _blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    budget = GPU_BLOCK if device.type == "cuda" else CPU_BLOCK
    size = max(16, budget // max(1, columns))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _find(wanted: Tensor, items: Tensor) -> Hits:
    ordered, order = items.sort()
    first = torch.searchsorted(ordered, wanted)
    return order, first, torch.searchsorted(ordered, wanted, right=True) - first


def _places(hits: Hits, rows: slice) -> tuple[Tensor, Tensor]:
    """Return row and column of the hits in a block; they are too few for a mask of its size."""
    order, first, count = hits[0], hits[1][rows], hits[2][rows]
    row = torch.arange(len(count), device=order.device).repeat_interleave(count)
    before = count.cumsum(0) - count
    within = torch.arange(len(row), device=order.device) - before[row]
    return row, order[first[row] + within]

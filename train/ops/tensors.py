"""Rows of different lengths one after the other in a flat tensor."""

import torch
from torch import Tensor


def rows_and_places(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each element its row and its place in that row, `[N]` of N elements.

    Args:
        counts: how long each row is, `[B]`.
    """
    row = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    begins = counts.cumsum(0) - counts
    return row, torch.arange(len(row), device=counts.device) - begins[row]


def products(users: Tensor, items: Tensor) -> Tensor:
    """Return inner products `[B, n]` of users `[B, d]` and items `[n, d]` or `[B, n, d]`."""
    return users @ items.T if items.dim() == 2 else torch.einsum("bd,bnd->bn", users, items)

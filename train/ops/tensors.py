"""Ragged rows in a flat tensor, and inner products of users and items."""

import torch
from torch import Tensor


def rows_and_places(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of each element of ragged rows, and its place in that row, `[N]` each.

    Args:
        counts: length of each row, `[B]`.
    """
    row = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    begins = counts.cumsum(0) - counts
    return row, torch.arange(len(row), device=counts.device) - begins[row]


def products(users: Tensor, items: Tensor) -> Tensor:
    """Return inner products `[B, n]` of users `[B, d]` and items `[n, d]` or `[B, n, d]`."""
    return users @ items.T if items.dim() == 2 else torch.einsum("bd,bnd->bn", users, items)

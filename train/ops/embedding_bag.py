"""Embedding bags: means of rows that are looked up, with a fast gradient on a CPU.

There torch adds up the gradient with a call for each row that was looked up, which takes ten times
as long as the means.
"""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional as F


def means(table: Tensor, rows: Tensor, begins: Tensor) -> Tensor:
    """Return the mean of each bag's rows of a table, 0 of an empty bag: `[B, w]`.

    Args:
        table: `[C, w]`.
        rows: of all bags, one bag after the other, `[N]`.
        begins: of each bag in them, `[B]`.
    """
    if table.device.type == "cpu" and table.requires_grad:
        bags: Tensor = _Means.apply(table, rows, begins)
        return bags
    return F.embedding_bag(rows, table, begins, mode="mean")


class _Means(torch.autograd.Function):
    """Means whose gradient is an embedding bag too: a row's is a sum over the bags that have it."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, begins: Tensor) -> Tensor:
        ctx.size = len(table)
        ctx.save_for_backward(rows, begins)
        return F.embedding_bag(rows, table, begins, mode="mean")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, begins = (saved.numpy() for saved in ctx.saved_tensors)
        ends = np.append(begins, len(rows))
        lengths = np.diff(ends)
        shares = np.repeat(1 / np.maximum(lengths, 1), lengths)
        # Bags by table rows, transposed: the bags of each row, one row after the other.
        of_rows = csr_matrix((shares, rows, ends), (len(begins), ctx.size)).tocsc()
        bags, firsts, weights = map(
            torch.from_numpy, (of_rows.indices, of_rows.indptr, of_rows.data)
        )
        to_table = F.embedding_bag(
            bags,
            gradient.contiguous(),
            firsts[:-1],
            mode="sum",
            per_sample_weights=weights.to(gradient.dtype),
        )
        return to_table, None, None

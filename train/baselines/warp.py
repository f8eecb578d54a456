"""Matrix factorization by the WARP loss, as in LightFM, a batch at a time."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from train.baselines.factorizations import Factorization, sum_of
from train.core.ragged import Array


class WARP(Factorization):
    """Matrix factorization by the weighted approximate-rank pairwise loss (WSABIE, Weston 2011).

    For each positive, negatives are drawn until one scores above it less a margin of 1: the more
    draws that needs, the better the positive is ranked already, and the smaller is the step. Like
    LightFM's model without attributes (Kula 2015) it has item biases and is optimized by Adagrad.
    LightFM and its maintained forks are published as source only, which needs a compiler; this
    takes the draws and the step of a whole batch at once.

    In that model a new user has the item biases alone. Here such a user is the mean of the items of
    the history, and each item's bias is added to its score.

    Its settings are not picked on the validation window: each choice takes minutes on a million
    interactions.

    Attributes:
        factors: width of the vectors.
        epochs: over all pairs.
        learning_rate: of Adagrad.
        draws: negatives a pair at most; a pair that none of them violates is not stepped.
        batch_size: pairs a step.
    """

    name: Literal["warp"] = "warp"
    factors: int = Field(default=4, ge=1)
    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    draws: int = Field(default=10, ge=1)
    batch_size: int = Field(default=1024, ge=1)

    def factorize(self, matrix: Any, seed: int) -> tuple[Array, Array]:
        """Factorize, `[U, factors + 1]` and `[I, factors + 1]`: users end in 1, items in a bias."""
        generator = torch.Generator().manual_seed(seed)
        pairs = matrix.tocoo()
        user, item = (torch.from_numpy(index.astype(np.int64)) for index in (pairs.row, pairs.col))
        users, items = (_vectors(count, self.factors, generator) for count in matrix.shape)
        users.values[:, -1], items.values[:, -1] = 1, 0
        known = (user * matrix.shape[1] + item).sort().values
        for _ in range(self.epochs):
            for batch in torch.randperm(len(user), generator=generator).split(self.batch_size):
                shape = len(batch), self.draws
                drawn = torch.randint(matrix.shape[1], shape, generator=generator)
                self._step(users, items, user[batch], item[batch], drawn, known)
        return users.values.numpy(), items.values.numpy()

    def fold_in(self, vectors: Tensor, place: Tensor, present: Tensor, folding: Tensor) -> Tensor:
        """Return the mean of the vectors of the history, ending in 1."""
        count = present.sum(1, keepdim=True)
        mean = sum_of(vectors, place, present) / count.clamp(min=1)
        return torch.cat([mean[:, :-1], (count > 0).to(mean.dtype)], dim=1)

    def _step(
        self,
        users: "_Vectors",
        items: "_Vectors",
        user: Tensor,
        item: Tensor,
        drawn: Tensor,
        known: Tensor,
    ) -> None:
        """Step once with pairs `[B]`, their draws `[B, draws]`, and the keys of all pairs `[N]`."""
        own, positive, size = users.values[user], items.values[item], len(items.values)
        least = (own * positive).sum(1) - 1
        row, place = torch.where((own[:, None] * items.values[drawn]).sum(2) > least[:, None])
        new = ~_is_in(user[row] * size + drawn[row, place], known)
        row, place = _first(row[new], place[new])
        # The rank is estimated by the number of draws; its loss is the logarithm (Weston 2011).
        weight = ((size - 1) // (place + 1)).clamp(min=1).log()[:, None]
        negative = drawn[row, place]
        own_slope = weight * (items.values[negative] - positive[row])
        own_slope[:, -1] = 0  # the 1 that the bias is multiplied with
        slope = weight * own[row]
        users.descend(user[row], own_slope, self.learning_rate)
        both = torch.cat([item[row], negative]), torch.cat([-slope, slope])
        items.descend(*both, self.learning_rate)


@dataclass
class _Vectors:
    """Vectors `[n, d]`, and Adagrad's sums of the squares of their gradients."""

    values: Tensor
    squares: Tensor

    def descend(self, rows: Tensor, slopes: Tensor, rate: float) -> None:
        """Step with the sum of the slopes [m, d] of each row."""
        self.squares.index_add_(0, rows, slopes**2)
        self.values.index_add_(0, rows, -rate / self.squares[rows].sqrt() * slopes)


def _vectors(count: int, width: int, generator: torch.Generator) -> _Vectors:
    values = (torch.rand(count, width + 1, generator=generator) - 0.5) / width
    return _Vectors(values, torch.ones_like(values))


def _is_in(keys: Tensor, known: Tensor) -> Tensor:
    """Return whether each key is among the ascending known ones."""
    return known[torch.searchsorted(known, keys).clamp(max=len(known) - 1)] == keys


def _first(row: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's first place; rows ascend, and places within a row."""
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    return row[first], place[first]

"""Negative sampling, uniform or by popularity."""

from collections.abc import Callable

import torch
from torch import Tensor


def uniform(catalogue: Tensor, count: int, seed: int) -> Tensor:
    """Draw `count` items of `catalogue` `[C]` uniformly, with replacement."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(catalogue), (count,), generator=generator)
    return catalogue[drawn.to(catalogue.device)]


def by_popularity(frequency: Tensor) -> Callable[[Tensor, int, int], Tensor]:
    """Return a draw like `uniform`, by frequency `[C]` ** 0.75 (Mikolov et al. 2013)."""

    def draw(catalogue: Tensor, count: int, seed: int) -> Tensor:
        # Searching the summed shares stays exact for catalogues of any size.
        shares = frequency.double().pow(0.75).cumsum(0)
        generator = torch.Generator().manual_seed(seed)
        places = torch.rand(count, generator=generator, dtype=torch.float64)
        return catalogue[torch.searchsorted(shares, places.to(shares.device) * shares[-1])]

    return draw

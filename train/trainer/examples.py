"""Training interactions on a device, with their weights in the loss."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from train.core.ragged import Array
from train.core.schema import Interactions
from train.towers.batches import Examples


def examples(
    interactions: Interactions,
    n_users: int,
    device: torch.device,
    half_life: float | None = None,
    weighted: bool = False,
) -> Examples:
    """Move the training interactions to a device.

    Args:
        interactions: ordered by user and time.
        n_users: U.
        device: that the workers' batches are made on.
        half_life: days after which an interaction weighs half of a new one; None: all weigh 1.
        weighted: each counts in proportion to its own weight as well.
    """
    weight = _weights(interactions, half_life, weighted)
    weights = None if weight is None else torch.tensor(weight).to(device)
    starts = np.searchsorted(interactions.user, np.arange(n_users + 1, dtype=np.int32))
    users, items = _shared(interactions.user), _shared(interactions.item)
    return Examples(users.to(device), items.to(device), torch.tensor(starts).to(device), weights)


def _weights(interactions: Interactions, half_life: float | None, weighted: bool) -> Array | None:
    """Return the weights of interactions in the loss, mean 1, float32 `[N]`; None for all 1."""
    recent = None if half_life is None else recency(interactions.timestamp, half_life)
    given = interactions.relative_weight() if weighted else None
    if recent is None or given is None:
        return given if recent is None else recent
    # Each has a mean of 1, but their product need not.
    product = recent * given
    return np.asarray(product / product.mean())


def recency(timestamp: Array, half_life: float) -> Array:
    """Return weights that halve every `half_life` days back from the newest, mean 1, `[N]`."""
    days = (timestamp.max() - timestamp) / 86_400
    weights = 0.5 ** (days / half_life)
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def _shared(values: Array) -> Tensor:
    """Return a tensor over the array's own memory: all workers of a node read one copy."""
    with warnings.catch_warnings():
        # The object store hands out read-only arrays, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(values))


def item_frequency(items: Array, n_items: int) -> Tensor:
    """Return the number of training interactions of each item, float32 `[I]`."""
    return torch.tensor(np.bincount(items, minlength=n_items), dtype=torch.float32)


def steps_per_epoch(count: int, batch: int, workers: int, limit: int | None) -> int:
    """Return the number of full batches of all workers in an epoch of at most `limit` examples."""
    return max(1, min(count, limit or count) // (batch * workers))


def epoch_batches(
    examples: Tensor, *, batch: int, workers: int, steps: range, seed: int
) -> Iterator[Tensor]:
    """Yield the examples `[W B]` of some steps of all workers, without replacement."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator).to(examples.device)
    size = min(batch, len(examples) // workers) * workers
    for step in steps:
        yield examples[order[step * size : (step + 1) * size]]

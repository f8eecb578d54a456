"""Vectors of users and items from a tower, rankings by them, and their alignment."""

import numpy as np
import torch

from train.core.ragged import Array, Ragged
from train.index.exact import rank_catalogue, rank_scores
from train.towers.model import TwoTowerModel


@torch.no_grad()
def encode_catalogue(model: TwoTowerModel, block: int = 65536) -> Array:
    """Encode every item: float32 `[I, d]`."""
    model.eval()
    index = torch.arange(model.item_input.count, device=model.device)
    blocks = [model.encode_items(part).cpu() for part in index.split(block)]
    return torch.cat(blocks).numpy()


@torch.no_grad()
def encode_users(model: TwoTowerModel, users: Array, histories: Ragged, block: int = 4096) -> Array:
    """Encode users `[B]` (-1 unknown), one row of `histories` each: float32 `[B, d]`."""
    model.eval()
    length = max(1, model.settings.history)
    parts = []
    for start in range(0, max(1, len(users)), block):
        rows = slice(start, start + block)
        recent = histories.take(np.arange(start, min(start + block, len(users)))).last(length)
        index = torch.as_tensor(users[rows], dtype=torch.int64, device=model.device)
        history = torch.as_tensor(recent, dtype=torch.int64, device=model.device)
        parts.append(model.encode_users(index, history).cpu())
    return torch.cat(parts).numpy()


def rank_by_model(
    model: TwoTowerModel, users: Array, items: Array, catalogue: Array, exclude: Ragged, k: int
) -> Array:
    """Rank the whole catalogue for every user as the model scores, int32 `[U, k]`.

    Args:
        model: its towers made the vectors.
        users: vectors, float32 `[U, d]`.
        items: vectors, float32 `[I, d]`.
        catalogue: items that may be ranked, bool `[I]`.
        exclude: items of each user that may not, `U` rows.
        k: how many.
    """
    if model.head is None:
        return rank_catalogue(users, items, catalogue, exclude, k)
    head, every = model.head.trained(), np.arange(len(users))
    return rank_scores(lambda rows: head.scores(users[rows], items), every, catalogue, exclude, k)


def align(model: TwoTowerModel, reference: Array, both: Array) -> None:
    """Rotate the model's space onto that of another fit, which leaves every inner product alone.

    Towers that score pairs stay as they are: their layers read each element by itself.

    A reranker that reads vectors was trained on those of the other fit (orthogonal Procrustes;
    Schonemann 1966).

    Args:
        model: its `rotation` is set.
        reference: item vectors of the other fit, float32 `[I, d]`; elements after those that are
            multiplied are not turned.
        both: items that both fits were trained on, bool `[I]`.
    """
    if model.head is not None:
        return
    width = model.settings.product_width
    own, other = encode_catalogue(model)[both, :width], reference[both, :width]
    left, _, right = np.linalg.svd(own.T @ other)
    model.rotation.copy_(model.rotation @ torch.as_tensor(left @ right))

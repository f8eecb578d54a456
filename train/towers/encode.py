"""Batch encoding of users and items, whole-catalogue ranking, and alignment of refits."""

import numpy as np
import torch
from torch import Tensor

from train.core.features import Features
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
def encode_users(
    model: TwoTowerModel,
    users: Array,
    histories: Ragged,
    attributes: Features | None = None,
    block: int = 4096,
) -> Array:
    """Encode users `[B]` (-1 unknown), one row of `histories` each: float32 `[B, d]`.

    Args:
        model: the towers.
        users: indices.
        histories: items of each.
        attributes: of each, instead of the stored ones.
        block: users at a time.
    """
    model.eval()
    length = max(1, model.settings.history)
    parts = []
    for start in range(0, max(1, len(users)), block):
        rows = slice(start, start + block)
        recent = histories.take(np.arange(start, min(start + block, len(users)))).last(length)
        index = torch.as_tensor(users[rows], dtype=torch.int64, device=model.device)
        history = torch.as_tensor(recent, dtype=torch.int64, device=model.device)
        own = None if attributes is None else _tensors(attributes, rows, model.device)
        parts.append(model.encode_users(index, history, own).cpu())
    return torch.cat(parts).numpy()


def _tensors(of: Features, rows: slice, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return dense columns, codes and the start of each row's codes, of some rows."""
    offsets = of.categories.offsets[rows.start : rows.stop + 1]
    codes = of.categories.values[offsets[0] : offsets[-1]].astype(np.int64)
    arrays = of.dense[rows], codes, offsets[:-1] - offsets[0]
    dense, flat, starts = (torch.as_tensor(array, device=device) for array in arrays)
    return dense, flat, starts


def rank_by_model(
    model: TwoTowerModel, users: Array, items: Array, catalogue: Array, exclude: Ragged, k: int
) -> Array:
    """Rank the whole catalogue for every user, exactly: top k items, int32 `[U, k]`.

    Args:
        model: scores pairs of vectors: by inner products, or by its head.
        users: vectors, float32 `[U, d]`.
        items: vectors, float32 `[I, d]`.
        catalogue: items that may be recommended, bool `[I]`.
        exclude: items that each user has interacted with, U rows.
        k: length of each ranking.
    """
    if model.head is None:
        return rank_catalogue(users, items, catalogue, exclude, k)
    head, rows = model.head.trained(), np.arange(len(users))
    return rank_scores(lambda block: head.scores(users[block], items), rows, catalogue, exclude, k)


def align(model: TwoTowerModel, reference: Array, both: Array) -> None:
    """Align a refitted embedding space to a reference (orthogonal Procrustes, Schonemann 1966).

    A reranker that reads vectors was trained on those of the reference. The rotation leaves every
    inner product as it is. Towers with a head over pairs are not rotated: it reads each element by
    itself.

    Args:
        model: its `rotation` is set.
        reference: item vectors of the earlier fit, float32 `[I, d]`; only the elements that are
            multiplied are rotated, a bias or a square is not.
        both: items that both fits were trained on, bool `[I]`.
    """
    if model.head is not None:
        return
    width = model.settings.product_width
    vectors, target = encode_catalogue(model)[both, :width], reference[both, :width]
    left, _, right = np.linalg.svd(vectors.T @ target)
    model.rotation.copy_(model.rotation @ torch.as_tensor(left @ right))

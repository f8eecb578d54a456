"""Towers: what turns users and items into vectors whose inner product ranks the catalogue.

Shapes: U users, I items, B batch, M items asked for, h history length, d width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from train.features import Features
from train.ragged import Array, Ragged
from train.settings import Settings


@dataclass(frozen=True)
class TowerInputs:
    """The tables that towers look up.

    Attributes:
        user_features: of the U users.
        item_features: of the I items.
        warm_users: users with a training interaction, bool `[U]`; only these have an id embedding.
        warm_items: the same for items, bool `[I]`.
    """

    user_features: Features
    item_features: Features
    warm_users: Array
    warm_items: Array


class Tower(Settings):
    """Settings of one architecture; `build` makes the module."""

    def build(self, inputs: TowerInputs) -> "TwoTowerModel":
        """Return a freshly initialised module over these tables."""
        raise NotImplementedError


class TwoTower(Tower):
    """Two-tower model with ids, attributes and a mean-pooled history (Covington et al. 2016).

    Attributes:
        width: length d of the vectors.
        user_id: give users an id embedding; without one a user is only history and attributes.
        item_id: give items an id embedding.
        user_attributes: encode the columns of the user table.
        item_attributes: encode the columns of the item table.
        history: newest interactions that describe a user; 0 for none.
        hidden: width of a residual ReLU layer on both sides; 0 for none.
        dropout: on the input of that layer and on the pooled history.
        normalize: scale vectors to length 1; wants a temperature near 0.1 in the loss.
    """

    name: Literal["two_tower"] = "two_tower"
    width: int = Field(default=64, ge=1)
    user_id: bool = True
    item_id: bool = True
    user_attributes: bool = True
    item_attributes: bool = True
    history: int = Field(default=200, ge=0)
    hidden: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    normalize: bool = False

    def build(self, inputs: TowerInputs) -> "TwoTowerModel":
        """Return a freshly initialised module over these tables."""
        return TwoTowerModel(self, inputs)


class TwoTowerModel(nn.Module):
    """The module behind `TwoTower`; indices in, vectors out."""

    def __init__(self, settings: TwoTower, inputs: TowerInputs) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.item_input = Side(
            inputs.item_features,
            inputs.warm_items,
            width,
            settings.item_id,
            settings.item_attributes,
        )
        self.user_input = Side(
            inputs.user_features,
            inputs.warm_users,
            width,
            settings.user_id,
            settings.user_attributes,
        )
        # With several workers every parameter has to be used.
        self.history = nn.Linear(width, width) if settings.history else None
        if self.history is not None:
            nn.init.eye_(self.history.weight)
            nn.init.zeros_(self.history.bias)
        self.dropout = nn.Dropout(settings.dropout)
        self.user_layers = _layers(width, settings.hidden, settings.dropout)
        self.item_layers = _layers(width, settings.hidden, settings.dropout)
        self.rotation: Tensor
        self.register_buffer("rotation", torch.eye(width))

    @property
    def device(self) -> torch.device:
        """Where the parameters and tables are."""
        return self.rotation.device

    def forward(self, users: Tensor, history: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Encode users `[B]` with histories `[B, h]` and items `[M]`: `[B, d]` and `[M, d]`.

        Every item that occurs is looked up once, however often it stands in the histories.
        """
        wanted = torch.cat([items, history.flatten().clamp(min=0)])
        inputs, position = self._distinct(wanted)
        place = position[len(items) :].view_as(history)
        pooled = mean_pool(inputs, place, history >= 0)
        return self._users(users, pooled), self._items(inputs[position[: len(items)]])

    def encode_users(self, users: Tensor, history: Tensor) -> Tensor:
        """Encode users `[B]` (-1 unknown) with histories `[B, h]` (-1 padded): `[B, d]`."""
        vectors: Tensor = self(users, history, users[:0])[0]
        return vectors

    def encode_items(self, items: Tensor) -> Tensor:
        """Encode items `[M]`: `[M, d]`."""
        return self._items(self.item_input(items))

    def _distinct(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the items that occur and the place of each in them."""
        if len(wanted) >= self.item_input.count:
            return self.item_input.everything(), wanted
        distinct, position = torch.unique(wanted, return_inverse=True)
        return self.item_input(distinct), position

    def _users(self, users: Tensor, pooled: Tensor) -> Tensor:
        hidden = self.user_input(users)
        if self.history is not None:
            hidden = hidden + self.history(self.dropout(pooled))
        return self._finish(hidden, self.user_layers)

    def _items(self, inputs: Tensor) -> Tensor:
        return self._finish(inputs, self.item_layers)

    def _finish(self, hidden: Tensor, layers: nn.Module | None) -> Tensor:
        if layers is not None:
            hidden = hidden + layers(hidden)
        if self.settings.normalize:
            hidden = F.normalize(hidden, dim=1)
        return hidden @ self.rotation


class Side(nn.Module):
    """Id embedding plus encoded attributes of the users or the items, summed: `[m] -> [m, d]`.

    Rows without training interactions have an id embedding of 0. So has one row more, the last,
    which stands for whoever is unknown and has no attributes either.
    """

    def __init__(
        self, features: Features, warm: Array, width: int, with_id: bool, with_attributes: bool
    ) -> None:
        super().__init__()
        self.count, self.width = len(warm), width
        self.id = nn.Embedding(self.count + 1, width, self.count) if with_id else None
        if self.id is not None:
            nn.init.normal_(self.id.weight, std=width**-0.5)
            with torch.no_grad():
                self.id.weight[torch.tensor(np.append(~warm, True))] = 0
        self.attributes = Attributes(features, width) if with_attributes else None
        self.nothing: Tensor
        self.register_buffer("nothing", torch.zeros(1, width), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Look up indices `[m]`, -1 for unknown."""
        row = torch.where(index < 0, self.count, index)
        return self._sum(
            len(row),
            None if self.id is None else self.id(row),
            None if self.attributes is None else self.attributes(row),
        )

    def everything(self) -> Tensor:
        """Return all rows and the unknown one, `[n + 1, d]`, without looking any of them up."""
        return self._sum(
            self.count + 1,
            None if self.id is None else self.id.weight,
            None if self.attributes is None else self.attributes.everything(),
        )

    def _sum(self, rows: int, *parts: Tensor | None) -> Tensor:
        present = [part for part in parts if part is not None]
        return sum(present[1:], present[0]) if present else self.nothing.expand(rows, -1)


class Attributes(nn.Module):
    """Category embeddings (mean over a row's codes) plus a linear map of the dense columns.

    The last row is empty, for whoever is unknown.
    """

    def __init__(self, features: Features, width: int) -> None:
        super().__init__()
        self.dense: Tensor
        self.codes: Tensor
        self.offsets: Tensor
        codes, offsets = features.categories.values, features.categories.offsets
        columns = features.dense.shape[1]
        dense = np.concatenate([features.dense, np.zeros((1, columns), np.float32)])
        self.register_buffer("dense", torch.tensor(dense), persistent=False)
        self.register_buffer("codes", torch.tensor(codes).long(), persistent=False)
        offsets = np.append(offsets, offsets[-1])
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.embedding = nn.Embedding(max(1, len(features.vocabulary)), width)
        nn.init.normal_(self.embedding.weight, std=0.1 * width**-0.5)
        self.linear = nn.Linear(columns, width, bias=False) if columns else None

    def forward(self, row: Tensor) -> Tensor:
        """Encode rows `[m]`: `[m, d]`."""
        start = self.offsets[row]
        lengths = self.offsets[row + 1] - start
        ends = lengths.cumsum(0)
        begins = ends - lengths
        total = int(ends[-1]) if len(row) else 0
        within = torch.arange(total, device=row.device) - begins.repeat_interleave(lengths)
        codes = self.codes[start.repeat_interleave(lengths) + within]
        return self._encode(codes, begins, self.dense[row])

    def everything(self) -> Tensor:
        """Encode all rows: `[n + 1, d]`."""
        return self._encode(self.codes, self.offsets[:-1], self.dense)

    def _encode(self, codes: Tensor, begins: Tensor, dense: Tensor) -> Tensor:
        bags = F.embedding_bag(codes, self.embedding.weight, begins, mode="mean")
        return bags if self.linear is None else bags + self.linear(dense)


def mean_pool(vectors: Tensor, place: Tensor, present: Tensor) -> Tensor:
    """Average the rows of `vectors` `[m, d]` at `place` `[B, h]` where `present`; 0 where none."""
    weight = present.to(vectors.dtype)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    return F.embedding_bag(place, vectors, per_sample_weights=weight, mode="sum")


def _layers(width: int, hidden: int, dropout: float) -> nn.Module | None:
    if not hidden:
        return None
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
    )


TOWERS: Mapping[str, type[Tower]] = {"two_tower": TwoTower}


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


def align(model: TwoTowerModel, reference: Array, both: Array) -> None:
    """Rotate the model's space onto that of another fit, which leaves every inner product alone.

    A reranker that reads vectors was trained on those of the other fit (orthogonal Procrustes;
    Schonemann 1966).

    Args:
        model: its `rotation` is set.
        reference: item vectors of the other fit, float32 `[I, d]`.
        both: items that both fits were trained on, bool `[I]`.
    """
    own = encode_catalogue(model)
    left, _, right = np.linalg.svd(own[both].T @ reference[both])
    model.rotation.copy_(model.rotation @ torch.as_tensor(left @ right))


def state_bytes(model: TwoTowerModel) -> bytes:
    """Return the weights in safetensors format."""
    return save({name: value.contiguous() for name, value in model.state_dict().items()})


def load(settings: Tower, inputs: TowerInputs, path: Path) -> TwoTowerModel:
    """Build the module and fill it with the weights of a safetensors file."""
    model = settings.build(inputs)
    weights: dict[str, Any] = load_file(path)
    model.load_state_dict(weights)
    model.eval()
    return model

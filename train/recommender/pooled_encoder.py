"""The user side of a `two_tower` in numpy, over mapped weights: what serving encodes users with.

A service that loads torch for it takes 125 MB and 1.5 s more of each replica, its tables once more
each, and the time of 20 layers' dispatch for one user. It computes what `train.towers.two_tower`
does, to the rounding of float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.core.features import Features
from train.core.ragged import Array, Ragged

TOWER = "two_tower"
"""The tower whose users are encoded here."""

# Of settings that bundles of earlier versions do not have.
DEFAULTS = {"width": 64, "history": 200, "normalize": False, "score": "dot", "item_bias": False}
_EPSILON = 1e-12  # of torch's normalize


@dataclass(frozen=True)
class PooledEncoder:
    """Encodes users with the weights of a trained `two_tower`.

    Attributes:
        settings: of the tower; those that are missing are `DEFAULTS`.
        weights: by the names of its module.
        users: attributes of the users that are known.
        items: attributes of the items.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Array]
    users: Features
    items: Features

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", DEFAULTS | dict(self.settings))
        for name, shape in self._shapes().items():
            found = self.weights[name].shape if name in self.weights else None
            if found != shape and (found is not None or name in self._needed()):
                raise ValueError(f"the tower's {name} is {found}, expected {shape}")

    def _needed(self) -> set[str]:
        pooling = {"history.linear.weight", "history.linear.bias"}
        return {"rotation"} | (pooling if self.settings["history"] else set())

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight that does not depend on another."""
        width, product = self.settings["width"], self.settings["width"] - self.settings["item_bias"]
        shapes = {
            "rotation": (product, product),
            "history.linear.weight": (width, width),
            "history.linear.bias": (width,),
            "history.attention.weight": (1, width),
        }
        for side, of in (("user", self.users), ("item", self.items)):
            attributes = f"{side}_input.attributes"
            shapes[f"{side}_input.id.weight"] = len(of.dense) + 1, width
            shapes[f"{attributes}.embedding.weight"] = max(1, len(of.vocabulary)), width
            shapes[f"{attributes}.linear.weight"] = width, of.dense.shape[1]
        return shapes

    def __call__(self, user: Array, history: Ragged, attributes: Features | None = None) -> Array:
        """Encode users `[B]` (-1 unknown), one row of `history` each: float32 `[B, d]`.

        Args:
            user: indices.
            history: items of each.
            attributes: of each, instead of the stored ones.
        """
        own = self.users.take(user) if attributes is None else attributes
        hidden = self._rows("user", user, own)
        if self.settings["history"]:
            hidden = hidden + self._pooled(history)
        return self._finished(self._residual(hidden))

    def _rows(self, side: str, index: Array, features: Features) -> Array:
        """Return the id embedding and the encoded attributes of rows, summed: `[m, w]`."""
        found = np.zeros((len(index), self.settings["width"]), np.float32)
        table = self.weights.get(f"{side}_input.id.weight")
        if table is not None:
            found += table[index]  # the last row, that of -1, is the one of who is unknown
        codes = self.weights.get(f"{side}_input.attributes.embedding.weight")
        if codes is not None:
            found += _means(codes, features.categories)
        dense = self.weights.get(f"{side}_input.attributes.linear.weight")
        return found if dense is None else found + features.dense @ dense.T

    def _pooled(self, history: Ragged) -> Array:
        """Return the linear map of the mean of the histories' newest items: `[B, d]`."""
        recent = history.last(self.settings["history"])
        items = Ragged.from_pairs(*_present(recent), len(recent))
        asked, place = np.unique(items.values, return_inverse=True)
        inputs = self._rows("item", asked, self.items.take(asked))
        attention = self.weights.get("history.attention.weight")
        rows = Ragged(place.astype(np.int32).reshape(-1), items.offsets)
        if attention is None:
            mean = _means(inputs, rows)
        else:
            mean = _attended(inputs, rows, (inputs @ attention.T)[:, 0])
        return np.asarray(
            mean @ self.weights["history.linear.weight"].T + self.weights["history.linear.bias"]
        )

    def _residual(self, inputs: Array) -> Array:
        """Return `x + W2 relu(W1 x)`, where there is such a layer."""
        if "joined.layers.1.weight" not in self.weights:
            return inputs
        layers = (1, 3)
        first, second = (self.weights[f"joined.layers.{layer}.weight"] for layer in layers)
        inner, outer = (self.weights[f"joined.layers.{layer}.bias"] for layer in layers)
        return np.asarray(inputs + np.maximum(inputs @ first.T + inner, 0) @ second.T + outer)

    def _finished(self, joined: Array) -> Array:
        """Return the vectors as they are searched with; see `TwoTowerModel.finish_users`."""
        settings, rotation = self.settings, self.weights["rotation"]
        vectors = joined[:, : len(rotation)]
        if settings["normalize"] or settings["score"] == "cosine":
            length = np.sqrt(np.square(vectors).sum(1, keepdims=True))
            vectors = vectors / np.maximum(length, _EPSILON)
        parts = [vectors @ rotation]
        if settings["score"] == "euclidean":
            square = np.square(parts[0]).sum(1, keepdims=True)
            parts = [2 * parts[0], -square, -np.ones_like(square)]
        if settings["item_bias"]:
            parts.append(np.ones((len(joined), 1), np.float32))
        return np.concatenate(parts, axis=1).astype(np.float32, copy=False)


def _present(recent: Array) -> tuple[Array, Array]:
    """Return the rows and values of what is no padding."""
    rows, places = np.nonzero(recent >= 0)
    return rows, recent[rows, places]


def _sums(values: Array, offsets: Array) -> Array:
    """Return the sum of each bag's rows, 0 of an empty one: `[B, w]`."""
    sums = np.zeros((len(offsets) - 1, values.shape[1]), np.float32)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled], axis=0)
    return sums


def _means(table: Array, rows: Ragged) -> Array:
    """Return the mean of each bag's rows of a table, 0 of an empty one: `[B, w]`."""
    counts = np.maximum(rows.lengths, 1)[:, None].astype(np.float32)
    return np.asarray(_sums(table[rows.values], rows.offsets) / counts)


def _attended(inputs: Array, rows: Ragged, scores: Array) -> Array:
    """Return the mean of each bag's rows, weighted by the softmax of their scores `[m]`."""
    of = scores[rows.values]
    most = np.full(len(rows), -np.inf, np.float32)
    np.maximum.at(most, rows.rows, of)
    weight = np.exp(of - most[rows.rows])
    total = np.bincount(rows.rows, weight, minlength=len(rows)).astype(np.float32)
    shares = (weight / total[rows.rows])[:, None]
    return _sums(inputs[rows.values] * shares, rows.offsets)

"""MLPReranker: features of a pair and both vectors -> hidden layers -> a score, in numpy."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.rerankers.base import Given, Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.cross_validation import parted

FILE = "reranker.safetensors"

CLIP = 5.0

NAMES = ("mean", "scale", "w_features", "w_user", "w_item", "b1", "w2", "b2", "w3", "b3")


@dataclass(frozen=True)
class MLPReranker:
    """The fitted weights, and the item half of the first layer computed once for the catalogue.

    The first layer splits over what it reads, `W [f; u; i] = W_f f + W_u u + W_i i`: the item part
    is looked up and the user part is computed once a query.

    Attributes:
        weights: float32 arrays by `NAMES`; `w_features` `[F, H]`, `w_user` and `w_item` `[d, H]`,
            `w2` `[H, H']`, `w3` `[H']`; `mean` and `scale` `[F]` standardise the features.
        item_part: `W_i i + b1`, float32 `[I, H]`.
    """

    weights: dict[str, Array]
    item_part: Array
    name: str = "mlp"

    @classmethod
    def of(cls, weights: dict[str, Array], item_vectors: Array) -> "MLPReranker":
        """Prepare for the items of `item_vectors` `[I, d]`."""
        return cls(weights, item_vectors @ weights["w_item"] + weights["b1"])

    def score(self, pairs: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`."""
        w = self.weights
        features = standardized(pairs.features, w["mean"], w["scale"])
        hidden = features @ w["w_features"]
        hidden += self.item_part[pairs.item]
        hidden += (pairs.user_vectors @ w["w_user"])[pairs.query]
        np.maximum(hidden, 0, out=hidden)
        hidden = hidden @ w["w2"] + w["b2"]
        np.maximum(hidden, 0, out=hidden)
        scores: Array = hidden @ w["w3"] + w["b3"]
        return scores.astype(np.float32, copy=False)

    def save(self, folder: Path) -> None:
        """Write `reranker.safetensors`."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(self.weights[name]) for name in NAMES}, folder / FILE)

    @classmethod
    def load(cls, folder: Path, item_vectors: Array) -> "MLPReranker":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is not safetensors, or its arrays are not those of this model.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            weights = load_file(folder / FILE)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{folder / FILE} is not a safetensors file: {error}") from error
        if set(weights) != set(NAMES) or weights["w_item"].shape[0] != item_vectors.shape[1]:
            raise ValueError(
                f"{folder / FILE} is not an MLPReranker over vectors of {item_vectors.shape[1]}: "
                f"expected {sorted(NAMES)}, got {sorted(weights)}"
            )
        return cls.of(weights, item_vectors)


def standardized(features: Array, mean: Array, scale: Array) -> Array:
    """Return features `[R, F]` with mean 0 and deviation 1 in fitting, cut at 5 deviations."""
    scaled = (features - mean) * scale
    return np.clip(scaled, -CLIP, CLIP, out=scaled)


class MLP(RerankerSettings):
    """A perceptron of the pair's features and both vectors, with a softmax over the candidates."""

    reads_vectors: ClassVar[bool] = True

    name: Literal["mlp"] = "mlp"
    hidden: tuple[int, int] = (256, 64)
    epochs: int = Field(default=30, gt=0)
    batch: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    patience: int = Field(default=5, gt=0)

    def _fit(self, given: Given) -> Reranker:
        from train.rerankers.mlp_training import fit

        rows, other = next(parted(given, folds=10))
        return fit(*rows, given.item_vectors, self, given.seed, given.threads, other)

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.safetensors`."""
        return MLPReranker.load(folder, item_vectors)

"""The reranker `mlp`: features and both vectors -> hidden layers -> a score, in NumPy."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.cross_validation import training_and_evaluation
from train.rerankers.scaling import standardized
from train.rerankers.training_set import TrainingSet

FILE = "reranker.safetensors"

# Rows of a product; 200 candidates, the default, are padded to 4 blocks.
BLOCK = 50

NAMES = ("mean", "scale", "w_features", "w_user", "w_item", "b1", "w2", "b2", "w3", "b3")


@dataclass(frozen=True)
class MLPReranker:
    """The fitted weights, and the item half of the first layer computed once for the catalogue.

    The first layer splits over what it reads, `W [f; u; i] = W_f f + W_u u + W_i i`: the item part
    is looked up and the user part is computed once a request.

    Attributes:
        weights: float32 arrays by `NAMES`; `w_features` `[F, H]`, `w_user` and `w_item` `[d, H]`,
            `w2` `[H, H']`, `w3` `[H']`; `mean` and `scale` `[F]` standardize the features.
        item_part: `W_i i + b1`, float32 `[I, H]`.
    """

    weights: dict[str, Array]
    item_part: Array
    name: str = "mlp"
    reads_users: ClassVar[bool] = True

    @classmethod
    def of(cls, weights: dict[str, Array], item_vectors: Array) -> "MLPReranker":
        """Prepare for the items of `item_vectors` `[I, d]`."""
        return cls(weights, item_vectors @ weights["w_item"] + weights["b1"])

    def score(self, rows: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`."""
        w = self.weights
        place, blocks = block_places(rows.query)
        features = np.zeros((blocks * BLOCK, rows.features.shape[1]), np.float32)
        features[place] = standardized(rows.features, w["mean"], w["scale"])
        item, query = np.zeros((2, len(features)), np.int64)
        item[place], query[place] = rows.item, rows.query
        hidden = _by_block(features, w["w_features"])
        hidden += self.item_part[item]
        hidden += np.matmul(rows.user_vectors[:, None], w["w_user"])[query, 0]
        np.maximum(hidden, 0, out=hidden)
        hidden = _by_block(hidden, w["w2"])
        hidden += w["b2"]
        np.maximum(hidden, 0, out=hidden)
        scores: Array = _by_block(hidden, w["w3"]) + w["b3"]
        return scores[place].astype(np.float32, copy=False)

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


def block_places(query: Array) -> tuple[Array, int]:
    """Return each row's place where every request begins a block of its own, `[R]`, and the blocks.

    A product of matrices rounds a row by its place in it and by the number of rows. In blocks of
    one size both depend on the row's place in its request alone.

    Args:
        query: index of each row's request, ascending, `[R]`.
    """
    _, starts, group, lengths = np.unique(
        query, return_index=True, return_inverse=True, return_counts=True
    )
    blocks = -(-lengths // BLOCK)
    first = (np.cumsum(blocks) - blocks) * BLOCK
    return np.arange(len(query)) + (first - starts)[group], int(blocks.sum())


def _by_block(rows: Array, weights: Array) -> Array:
    """Return the product `rows @ weights` of whole blocks, each multiplied by itself."""
    products = np.matmul(rows.reshape(-1, BLOCK, rows.shape[1]), weights)
    return np.asarray(products.reshape(len(rows), *weights.shape[1:]))


class MLP(RerankerSettings):
    """A multilayer perceptron of features and both vectors; softmax over a request's candidates.

    Attributes:
        hidden: widths of the two hidden layers.
        epochs: passes over the requests, at most.
        batch: requests a step.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        dropout: share of hidden units that are set to 0 in fitting.
        patience: epochs without a lower loss on held-out requests before fitting stops.
    """

    reads_vectors: ClassVar[bool] = True

    name: Literal["mlp"] = "mlp"
    hidden: tuple[int, int] = (256, 64)
    epochs: int = Field(default=30, gt=0)
    batch: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    patience: int = Field(default=5, gt=0)

    def _fit(
        self, training: TrainingSet, seed: int, threads: int, evaluation: TrainingSet | None
    ) -> Reranker:
        # Imported here, for serving needs no torch.
        from train.rerankers.mlp_training import fit

        # A tenth of the requests stops fitting where none are given for it.
        parts = training_and_evaluation(training, evaluation, folds=10, seed=seed)
        return fit(self, *next(parts), seed, threads)

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.safetensors`."""
        return MLPReranker.load(folder, item_vectors)

"""Matrix factorizations as towers: the baselines that have vectors, served as any other tower.

Shapes: B users, h history length, m items looked up, d width.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from train.baselines.factorizations import ALS, SVD, Factorization
from train.baselines.warp import WARP
from train.core.features import Features
from train.core.ragged import Ragged
from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.towers.base import COLD_ITEMS_ALIKE, SuitsScores, Tower, TowerLayers
from train.towers.encode import encode_users
from train.towers.model import TwoTowerModel

# Settings that a factorization cannot change: it has id vectors, ranked by inner products.
FIXED: Mapping[str, Any] = {
    "user_id": True,
    "item_id": True,
    "user_attributes": False,
    "item_attributes": False,
    "dropout": 0.0,
    "normalize": False,
    "item_bias": False,
    "score": "dot",
}


class Factorized(Tower):
    """A matrix factorization fitted in closed form, without gradient steps of the trainer.

    Beside `width` and `history` its settings are those of the baseline of the same name. The vector
    of a user is the one that the baseline learned, plus the fold-in of the newest `history` items
    now, minus the fold-in of those known in training. An unknown user is the fold-in alone.
    """

    name: str
    user_attributes: bool = False
    item_attributes: bool = False

    @model_validator(mode="after")
    def _it_is_vectors_of_ids(self) -> "Factorized":
        for key, value in FIXED.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"{key}: expected {value}, for {self.name} learns a vector for each id and "
                    f"ranks by inner products, got {getattr(self, key)}; leave it out"
                )
        return self

    def baseline(self) -> Factorization:
        """The baseline with these settings."""
        raise NotImplementedError

    def check(self, items: int, features: Features) -> None:
        """Raise ValueError where the baseline cannot be fitted to so many warm items."""
        try:
            self.baseline().check(items, features)
        except ValueError as error:
            raise ValueError(f"{error}: that is tower.width") from error

    def build_layers(self) -> TowerLayers:
        """Id embeddings are the vectors; the fold-in of the history is added to the user's."""
        history = FoldIn(self.baseline(), self.width) if self.history else None
        return TowerLayers(history, nn.Identity(), nn.Identity(), nn.Identity())

    @classmethod
    def closed_form(cls) -> bool:
        """It is: the baseline's own algorithm finds all vectors."""
        return True

    def unmet(self, loss: SuitsScores) -> str | None:
        """Any loss may stand beside it, for it learns from none."""

    def check_cold_items(self) -> None:
        """Refuse them: it learns from ids alone."""
        raise ValueError(f"{COLD_ITEMS_ALIKE}catalogue to warm")

    @torch.no_grad()
    def fit(
        self, model: TwoTowerModel, inputs: TowerInputs, known: Interactions, seed: int
    ) -> None:
        """Factorize; a user's id embedding is the learned vector minus the fold-in."""
        histories = Ragged.from_pairs(known.user, known.item, len(inputs.warm_users))
        users, items = self.baseline().vectors(known, inputs, seed)
        # With ids of 0, `encode_users` returns the fold-in alone.
        _set(model.user_input.id, np.zeros_like(users))
        _set(model.item_input.id, items)
        if isinstance(model.history, FoldIn):
            model.history.folding.copy_(self.baseline().folding(items))
        _set(model.user_input.id, users - encode_users(model, np.arange(len(users)), histories))


class SVDTower(Factorized):
    """Truncated SVD of the interaction matrix (PureSVD, Cremonesi et al. 2010).

    Attributes:
        width: singular values kept, the baseline's `rank`.
        regularization: added to the squares of the singular values.
        weighted: interactions count by their weights (ratings, say); else each user-item pair
            counts 1. Fold-ins are without weights.
    """

    name: Literal["svd"] = "svd"
    width: int = Field(default=5, ge=1)
    regularization: float = Field(default=0.0, ge=0)
    weighted: bool = False

    def baseline(self) -> SVD:
        """The baseline `svd` with these settings."""
        return SVD(rank=self.width, regularization=self.regularization, weighted=self.weighted)


class ALSTower(Factorized):
    """Alternating least squares on implicit feedback (Hu, Koren, Volinsky 2008).

    With an alpha other than 1 the fold-in solves a linear system for each user, for which ONNX has
    no operator.

    Attributes:
        width: of the vectors, the baseline's `factors`.
        regularization: L2, of the vectors.
        alpha: confidence in an interaction, where one in its absence is 1.
        iterations: alternations over both sides.
    """

    name: Literal["als"] = "als"
    width: int = Field(default=5, ge=1)
    regularization: float = Field(default=0.01, ge=0)
    alpha: float = Field(default=1.0, gt=0)
    iterations: int = Field(default=15, ge=1)

    def baseline(self) -> ALS:
        """The baseline `als` with these settings."""
        return ALS(
            factors=self.width,
            regularization=self.regularization,
            alpha=self.alpha,
            iterations=self.iterations,
        )


class WARPTower(Factorized):
    """Matrix factorization by the weighted approximate-rank pairwise loss (WSABIE, Weston 2011).

    Attributes:
        width: of the vectors: the baseline's `factors`, and the item bias as the last element.
        epochs: over all user-item pairs.
        learning_rate: of Adagrad.
        draws: negatives tried at most for each pair; a pair that outranks them all is skipped.
        batch_size: pairs of a step.
    """

    name: Literal["warp"] = "warp"
    width: int = Field(default=5, ge=2)
    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)
    draws: int = Field(default=10, ge=1)
    batch_size: int = Field(default=1024, ge=1)

    def baseline(self) -> WARP:
        """The baseline `warp` with these settings."""
        return WARP(
            factors=self.width - 1,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            draws=self.draws,
            batch_size=self.batch_size,
        )


class FoldIn(nn.Module):
    """Fold-in of a factorization: item vectors `[m, d]`, places, presence -> users `[B, d]`."""

    def __init__(self, baseline: Factorization, width: int) -> None:
        super().__init__()
        self.baseline = baseline
        self.folding: Tensor
        self.register_buffer("folding", torch.eye(width))

    def forward(self, inputs: Tensor, place: Tensor, present: Tensor) -> Tensor:
        """Fold in the rows of `inputs` at `place` `[B, h]` where `present`.

        A repeated item counts once, and cold items (vectors of 0) do not count.
        """
        known = present & (inputs != 0).any(1)[place]
        ordered = torch.where(known, place, -1).sort(1).values
        before = F.pad(ordered, (1, 0), value=-1)[:, :-1]
        first = (ordered >= 0) & (ordered != before)
        return self.baseline.fold_in(inputs, ordered.clamp(min=0), first, self.folding)


def _set(embedding: nn.Embedding | None, vectors: Any) -> None:
    """Set the rows of an embedding; the last one, of the unknown, stays 0."""
    assert embedding is not None
    embedding.weight[:-1] = torch.as_tensor(vectors)

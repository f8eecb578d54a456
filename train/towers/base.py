"""The settings that every tower has, and what a tower answers about itself.

A tower says which scores it makes, which losses and settings suit it, what its training examples
are and how it is fitted, so that another kind of tower is one file: it overrides the methods here.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn

from train.core.features import Features
from train.core.schema import Interactions
from train.core.settings import Settings
from train.data.snapshot import TowerInputs
from train.towers.batches import Batch, Examples, Sampling, Unit, interaction_batch, user_batch
from train.towers.layers import PairLayers
from train.towers.model import TwoTowerModel

Scores = Literal["dot", "cosine", "euclidean", "pair"]

# Error of a catalogue with items whose vectors would all be equal; a remedy follows.
COLD_ITEMS_ALIKE = (
    'catalogue "all" has items that nobody took, and without tower.item_attributes they all look '
    "the same; set "
)


class SuitsScores(Protocol):
    """The part of a loss that towers know."""

    def needs(self, scores: str) -> str | None:
        """Requirement of a loss that these scores do not meet; None where they suit."""


@dataclass(frozen=True)
class TowerLayers:
    """The layers of both sides; where a tower has none, an identity stands.

    Attributes:
        history: inputs of items `[m, w]`, places and presence `[B, h]` -> `[B, d]`; None for none.
        user: over the looked-up rows of users, `[B, d] -> [B, d]`, before the history is added.
        joined: over the sum of both, `[B, d] -> [B, d]`.
        item: over the looked-up rows of items, `[M, w] -> [M, d]`.
        head: scores pairs of vectors that no inner product scores; None for inner products.
    """

    history: nn.Module | None
    user: nn.Module
    joined: nn.Module
    item: nn.Module
    head: PairLayers | None = None


class Tower(Settings):
    """Settings that every architecture has; `build_layers` makes its layers.

    Attributes:
        width: length d of the vectors.
        user_id: give users an id embedding; without one a user is only history and attributes.
        item_id: give items an id embedding.
        user_attributes: encode the columns of the user table.
        item_attributes: encode the columns of the item table.
        history: newest interactions that describe a user; 0 for none.
        dropout: share of values set to 0 in training.
        normalize: scale vectors to length 1.
        item_bias: learn a bias of each item (its popularity, which cosines express badly), added
            to its scores for every user; it is the last element of the item's vector.
        score: "dot", the inner product of the vectors; "cosine", that of vectors of length 1, which
            needs a temperature near 0.1 in the loss; or "euclidean", the negative squared distance.
    """

    width: int = Field(default=64, ge=1)
    user_id: bool = True
    item_id: bool = True
    user_attributes: bool = True
    item_attributes: bool = True
    history: int = Field(default=200, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    normalize: bool = False
    item_bias: bool = False
    score: Scores = "dot"

    @model_validator(mode="after")
    def _score_suits_the_tower(self) -> "Tower":
        self.check_score()
        return self

    def check_score(self) -> None:
        """Raise ValueError where `score` or `item_bias` is none that this tower can have."""
        if self.score == "pair":
            raise ValueError("score: expected dot, cosine or euclidean, got 'pair'")
        if self.item_bias and self.width < 2:
            raise ValueError("item_bias: expected a width of 2 or more")

    # Its scores.

    @property
    def scores(self) -> Scores:
        """Scores as losses name them: dot products of unit vectors without a bias are cosines."""
        if self.item_bias:
            return "dot"
        return "cosine" if self.normalize and self.score == "dot" else self.score

    @property
    def product_width(self) -> int:
        """Number of a vector's elements that are multiplied: all but a bias."""
        return self.width - self.item_bias

    @property
    def added(self) -> int:
        """Number of elements at the end of vectors that a score adds to the product of others."""
        return 2 * (self.score == "euclidean") + self.item_bias

    # Its module.

    def item_width(self) -> int:
        """Width w of an item's looked-up row; that of a user is d."""
        return self.width

    def build_layers(self) -> TowerLayers:
        """Return freshly initialized layers."""
        raise NotImplementedError

    def looks_rows_up(self) -> bool:
        """Whether a step asks for the id rows of its batch alone, and not for whole tables."""
        return True

    def build(self, inputs: TowerInputs) -> TwoTowerModel:
        """Return a freshly initialized module over these tables."""
        return TwoTowerModel(self, inputs)

    # How it is fitted.

    @classmethod
    def closed_form(cls) -> bool:
        """Whether `fit` sets its weights in closed form; else gradient steps on a loss do."""
        return False

    def fit(
        self, model: TwoTowerModel, inputs: TowerInputs, known: Interactions, seed: int
    ) -> None:
        """Set the weights of a fresh module from the training interactions, in closed form."""
        raise NotImplementedError

    def prepare(self, model: TwoTowerModel, known: Interactions) -> None:
        """Set up a fresh module for gradient steps with all training interactions: a graph, say."""

    def count_examples(self, interactions: Interactions, unit: Unit) -> int:
        """Return about how many examples an epoch has, before any is made."""
        return len(np.unique(interactions.user)) if unit == "users" else len(interactions)

    def training_examples(self, data: Examples, unit: Unit) -> Tensor:
        """Return the examples of an epoch, `[E]`: indices of interactions, or of users.

        Args:
            data: the training interactions.
            unit: of examples, as `[train]` has it.

        Raises:
            ValueError: there are none.
        """
        return data.known_users() if unit == "users" else data.everything()

    def training_batch(self, data: Examples, step: Tensor, sampling: Sampling) -> Batch:
        """Return a worker's part of a step.

        Args:
            data: the training interactions.
            step: examples of all workers, `[W B]`, out of `training_examples`.
            sampling: which part, and how histories are drawn.
        """
        length = self.context_length(sampling.context_length)
        draw = user_batch if sampling.unit == "users" else interaction_batch
        return draw(data, step, sampling, length)

    def context_length(self, asked: int) -> int:
        """Length of the histories drawn for examples, 0 for none, where `[train]` asks for one."""
        return asked if self.history else 0

    @property
    def reads_order(self) -> bool:
        """Whether histories are read in their order, which needs times."""
        return False

    # What it refuses.

    def check(self, items: int, features: Features) -> None:
        """Raise ValueError where so many warm items with these attributes cannot be fitted."""

    def unmet(self, loss: SuitsScores) -> str | None:
        """Requirement of a loss that this tower does not meet; None where it suits."""
        return loss.needs(self.scores)

    def check_training(self, unit: Unit, context: str) -> None:
        """Raise ValueError where it cannot learn from examples of that unit or context."""

    def check_cold_items(self) -> None:
        """Raise ValueError where items without interactions have no vectors of their own."""
        if not self.item_attributes:
            raise ValueError(f"{COLD_ITEMS_ALIKE}it to true, or catalogue to warm")

    def check_vector_reader(self, reranker: str) -> None:
        """Raise ValueError where a reranker that reads vectors cannot read those of a refit."""

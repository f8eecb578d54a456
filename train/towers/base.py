"""What every tower is: two sides, layers over them, and vectors that rank the catalogue.

Shapes: U users, I items, B batch, M items asked for, h history length, N items in all histories of
a batch, w width of what is looked up of an item, d width of the vectors.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from train.core.schema import Interactions
from train.core.settings import Settings
from train.data.encoders import Features
from train.data.snapshot import TowerInputs
from train.towers.layers import PairLayers
from train.towers.model import TwoTowerModel

Scores = Literal["dot", "cosine", "euclidean", "pair"]


@dataclass(frozen=True)
class TowerLayers:
    """The layers of both sides; those that a tower does not have hand on what they get.

    Attributes:
        history: `[m, w]` of item inputs, places and presence `[B, h]` -> `[B, d]`; None for none.
        user: over what is looked up of users, `[B, d] -> [B, d]`, before the history is added.
        joined: over the sum of both, `[B, d] -> [B, d]`.
        item: over what is looked up of items, `[M, w] -> [M, d]`.
        head: scores pairs of vectors where that is no inner product.
    """

    history: nn.Module | None
    user: nn.Module
    joined: nn.Module
    item: nn.Module
    head: PairLayers | None = None


class Tower(Settings):
    """Settings that every architecture has; `build_layers` makes its layers.

    Attributes:
        pairs: whether layers over both vectors score a pair: nothing can index that, so the whole
            catalogue is tried, and `score` is "pair".
        sequential: whether it learns from every item of a history at once; then an example is
            `history` interactions of a user in a row.
        graph: whether it learns from all interactions of all users at each step; then no example
            has a history of its own.
        at_once: whether `fit` sets its weights, all at once; then loss and epochs do not matter.
        width: length d of the vectors.
        user_id: give users an id embedding; without one a user is only history and attributes.
        item_id: give items an id embedding.
        user_attributes: encode the columns of the user table.
        item_attributes: encode the columns of the item table.
        history: newest interactions that describe a user; 0 for none.
        dropout: share of values set to 0 in training.
        normalize: scale vectors to length 1.
        item_bias: the last element of an item's vector is added to its scores, whoever asks, and
            not multiplied: how often it is taken, which cosines say badly.
        score: what ranks: "dot", the inner product of the vectors; "cosine", that of vectors of
            length 1, which wants a temperature near 0.1 in the loss; or "euclidean", minus the
            squared distance.
    """

    pairs: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    graph: ClassVar[bool] = False
    at_once: ClassVar[bool] = False

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
    def _score_is_one_of_its_own(self) -> "Tower":
        if self.pairs != (self.score == "pair") or (self.pairs and self.normalize):
            own = "pair, and nothing to normalize" if self.pairs else "dot, cosine or euclidean"
            raise ValueError(f"score: expected {own}, got {self.score!r}")
        return self

    @model_validator(mode="after")
    def _a_bias_is_beside_other_elements(self) -> "Tower":
        if self.item_bias and (self.pairs or self.width < 2):
            own = (
                "false, for its layers add what they want" if self.pairs else "a width of 2 or more"
            )
            raise ValueError(f"item_bias: expected {own}")
        return self

    @property
    def scores(self) -> Scores:
        """What scores are: inner products of vectors of length 1 are cosines, but for a bias."""
        if self.item_bias:
            return "dot"
        return "cosine" if self.normalize and self.score == "dot" else self.score

    @property
    def product_width(self) -> int:
        """Return how many elements of a vector are multiplied: all but a bias."""
        return self.width - self.item_bias

    @property
    def added(self) -> int:
        """Return how many elements at the end of vectors a score adds to the product of others."""
        return 2 * (self.score == "euclidean") + self.item_bias

    def item_width(self) -> int:
        """Return the width w of what is looked up of an item; of a user it is d."""
        return self.width

    def build_layers(self) -> TowerLayers:
        """Return freshly initialised layers."""
        raise NotImplementedError

    def build(self, inputs: TowerInputs) -> TwoTowerModel:
        """Return a freshly initialised module over these tables."""
        return TwoTowerModel(self, inputs)

    def prepare(self, model: TwoTowerModel, known: Interactions) -> None:
        """Give a fresh module what it needs of the interactions beside batches of them."""

    def check(self, items: int, features: Features) -> None:
        """Raise ValueError where so many warm items with these attributes cannot be fitted."""

    def fit(
        self, model: TwoTowerModel, inputs: TowerInputs, known: Interactions, seed: int
    ) -> None:
        """Set the weights of a fresh module by what was known, where that is done at once."""
        raise NotImplementedError

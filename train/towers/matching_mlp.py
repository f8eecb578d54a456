"""The tower `matching_mlp`."""

from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from train.towers.base import TowerLayers
from train.towers.layers import PairLayers
from train.towers.pair_tower import PairTower
from train.towers.pooling import Pooled


class MatchingMLP(PairTower):
    """A feed-forward net over both concatenated vectors (study A of the reference studies).

    An item's vector encodes its attributes, a user's is the mean over the history. The net's layers
    have `width - factors` and `hidden` units.

    Attributes:
        hidden: width of the second layer.
        factors: elements of both vectors whose inner product is added to the net's score.
    """

    name: Literal["matching_mlp"] = "matching_mlp"
    width: int = Field(default=256, ge=1)
    user_id: bool = False
    item_id: bool = False
    user_attributes: bool = False
    history: int = Field(default=200, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    hidden: int = Field(default=64, ge=1)
    factors: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _layers_are_left(self) -> "MatchingMLP":
        if self.factors >= self.width:
            raise ValueError(f"factors: expected less than width, {self.width}, got {self.factors}")
        return self

    def build_layers(self) -> TowerLayers:
        """Looked-up items and their mean are both sides' parts of the net's first layer."""
        history = Pooled(self.width, self.width, self.dropout, attention=False)
        head = PairLayers(self.width, self.factors, self.hidden, self.dropout)
        return TowerLayers(history, nn.Identity(), nn.Identity(), nn.Identity(), head)

"""The tower `ncf`."""

from typing import Literal

from pydantic import Field
from torch import nn

from train.towers.base import TowerLayers
from train.towers.layers import PairLayers
from train.towers.pair_tower import PairTower
from train.towers.pooling import Pooled


class NCF(PairTower):
    """Neural collaborative filtering: inner products plus a net over ids (NeuMF; He et al. 2017).

    Half of each vector's elements are factors, the others go into the net.

    Attributes:
        hidden: width of the net's second layer.
    """

    name: Literal["ncf"] = "ncf"
    width: int = Field(default=64, ge=2)
    user_attributes: bool = False
    item_attributes: bool = False
    history: int = Field(default=0, ge=0)
    hidden: int = Field(default=16, ge=1)

    def build_layers(self) -> TowerLayers:
        """No first layer: a linear map of an id embedding is another id embedding."""
        history = None
        if self.history:
            history = Pooled(self.width, self.width, self.dropout, attention=False)
        head = PairLayers(self.width, self.width // 2, self.hidden, self.dropout)
        return TowerLayers(history, nn.Identity(), nn.Identity(), nn.Identity(), head)

"""The tower `two_tower`."""

from typing import Literal

from pydantic import Field
from torch import nn

from train.towers.base import Tower, TowerLayers
from train.towers.layers import Residual
from train.towers.pooling import Pooled


class TwoTower(Tower):
    """Two-tower model with ids, attributes and a pooled history (Covington et al. 2016).

    Attributes:
        pooling: of the history: "mean", or learned "attention".
        hidden: width of a residual ReLU layer on both sides; 0 for none.
    """

    name: Literal["two_tower"] = "two_tower"
    pooling: Literal["mean", "attention"] = "mean"
    hidden: int = Field(default=0, ge=0)

    def build_layers(self) -> TowerLayers:
        """Pool, add, and transform both sides alike."""
        attention = self.pooling == "attention"
        history = Pooled(self.width, self.width, self.dropout, attention) if self.history else None
        return TowerLayers(history, nn.Identity(), self._layers(), self._layers())

    def _layers(self) -> nn.Module:
        return Residual(self.width, self.hidden, self.dropout) if self.hidden else nn.Identity()

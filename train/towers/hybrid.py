"""The tower `hybrid`."""

from typing import Literal

from pydantic import Field
from torch import nn

from train.towers.base import Tower, TowerLayers
from train.towers.layers import stack
from train.towers.pooling import Pooled


class Hybrid(Tower):
    """Users by id, items by their attributes through a feed-forward net, to unit length.

    Cold items, known by genres and a title, say, have vectors as good as any other's (study D of
    the reference studies).

    Attributes:
        hidden: widths of the item side's layers; the first is that of the looked-up rows.
    """

    name: Literal["hybrid"] = "hybrid"
    width: int = Field(default=32, ge=1)
    item_id: bool = False
    user_attributes: bool = False
    history: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    normalize: bool = True
    hidden: tuple[int, ...] = Field(default=(128, 64, 32), min_length=1)

    def item_width(self) -> int:
        """Return the width of the first hidden layer."""
        return self.hidden[0]

    def build_layers(self) -> TowerLayers:
        """Layers on the item side alone."""
        history = None
        if self.history:
            history = Pooled(self.hidden[0], self.width, self.dropout, attention=False)
        item = stack(self.hidden[0], self.hidden[1:], self.width, self.dropout)
        return TowerLayers(history, nn.Identity(), nn.Identity(), item)

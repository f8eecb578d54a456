"""The tower `dssm`."""

from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from train.towers.base import Scores, Tower, TowerLayers
from train.towers.layers import Deep, Norm
from train.towers.pooling import Pooled
from train.towers.transformer import Transformer, check_heads


class DSSM(Tower):
    """Deep structured semantic model: three layers on both sides (Huang et al., CIKM 2013).

    Attributes:
        norm: of the hidden layers: "none", "batch" or "layer". Over several workers each one
            normalizes over its own batch; of items over those that occur in it, each once.
        encoder: "mlp"; or "transformer", one layer of causal attention over the history in order
            instead of its mean.
        heads: of that attention.
    """

    name: Literal["dssm"] = "dssm"
    width: int = Field(default=128, ge=1)
    user_id: bool = False
    item_id: bool = False
    dropout: float = Field(default=0.2, ge=0, lt=1)
    score: Scores = "euclidean"
    norm: Norm = "layer"
    encoder: Literal["mlp", "transformer"] = "mlp"
    heads: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "DSSM":
        check_heads(self.width, self.heads)
        return self

    @property
    def reads_order(self) -> bool:
        """Whether histories are read in their order: by attention, not by their mean."""
        return self.encoder == "transformer" and self.history > 0

    def build_layers(self) -> TowerLayers:
        """Attributes and history are added: a linear layer over their concatenation is a sum."""
        history: nn.Module | None = None
        if self.history and self.encoder == "transformer":
            history = Transformer(self.width, self.history, 1, self.heads, self.dropout, "sasrec")
        elif self.history:
            history = Pooled(self.width, self.width, self.dropout, attention=False)
        user, item = (Deep(self.width, self.norm, self.dropout) for _ in range(2))
        return TowerLayers(history, user, nn.Identity(), item)

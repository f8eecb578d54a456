"""The tower `history_transformer`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from train.towers.base import Tower, TowerLayers
from train.towers.transformer import Block, Transformer, check_heads


class HistoryTransformer(Tower):
    """Causal transformer over a user's history in order, trained on every position of it.

    SASRec (Kang and McAuley, ICDM 2018), or with the block "ligr" eSASRec (RecSys 2025); the item
    side is that of the other towers, so attributes count.

    Attributes:
        blocks: layers of attention.
        heads: of each.
        block: "sasrec" or "ligr".
    """

    sequential: ClassVar[bool] = True

    name: Literal["history_transformer"] = "history_transformer"
    user_id: bool = False
    user_attributes: bool = False
    history: int = Field(default=100, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    block: Block = "sasrec"

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "HistoryTransformer":
        check_heads(self.width, self.heads)
        return self

    def build_layers(self) -> TowerLayers:
        """Items are their inputs, so that what attends and what ranks are the same vectors."""
        options = self.blocks, self.heads, self.dropout, self.block
        history = Transformer(self.width, self.history, *options)
        return TowerLayers(history, nn.Identity(), nn.Identity(), nn.Identity())

"""The architectures: settings whose `parts` make the layers of a two-tower model.

To add one: a class, and a line in `TOWERS`. Baselines that are factorizations are towers by being
there.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from train.factorized import FACTORIZED
from train.histories import Block, Pooled, Transformer
from train.light_gcn import LightGCN
from train.model import Parts, Scores, Tower
from train.sides import Deep, Norm, PairLayers, Residual, stack


class TwoTower(Tower):
    """Two-tower model with ids, attributes and a pooled history (Covington et al. 2016).

    Attributes:
        pooling: of the history: "mean", or learned "attention".
        hidden: width of a residual ReLU layer on both sides; 0 for none.
    """

    name: Literal["two_tower"] = "two_tower"
    pooling: Literal["mean", "attention"] = "mean"
    hidden: int = Field(default=0, ge=0)

    def parts(self) -> Parts:
        """Pool, add, and transform both sides alike."""
        attention = self.pooling == "attention"
        history = Pooled(self.width, self.width, self.dropout, attention) if self.history else None
        return Parts(history, nn.Identity(), self._layers(), self._layers())

    def _layers(self) -> nn.Module:
        return Residual(self.width, self.hidden, self.dropout) if self.hidden else nn.Identity()


class Hybrid(Tower):
    """Users by id, items by what is known of them, through a feed-forward net to unit length.

    The genres and the title of a film, say: so an item that nobody took has a vector as good as
    any other (study D of the reference studies).

    Attributes:
        hidden: widths of the item side's layers; the first one is looked up.
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

    def parts(self) -> Parts:
        """Layers on the item side alone."""
        history = None
        if self.history:
            history = Pooled(self.hidden[0], self.width, self.dropout, attention=False)
        item = stack(self.hidden[0], self.hidden[1:], self.width, self.dropout)
        return Parts(history, nn.Identity(), nn.Identity(), item)


class DSSM(Tower):
    """Deep structured semantic model: three layers on both sides (Huang et al., CIKM 2013).

    Attributes:
        norm: of the hidden layers: "none", "batch" or "layer". Over several workers each one
            normalises over its own batch; of items over those that occur in it, each once.
        encoder: "mlp"; or "transformer", one layer of causal attention over the history in order
            in the place of its mean.
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
        _check_heads(self.width, self.heads)
        return self

    def parts(self) -> Parts:
        """Attributes and history are added: a linear layer over both side by side is that sum."""
        history: nn.Module | None = None
        if self.history and self.encoder == "transformer":
            history = Transformer(self.width, self.history, 1, self.heads, self.dropout, "sasrec")
        elif self.history:
            history = Pooled(self.width, self.width, self.dropout, attention=False)
        user, item = (Deep(self.width, self.norm, self.dropout) for _ in range(2))
        return Parts(history, user, nn.Identity(), item)


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
        _check_heads(self.width, self.heads)
        return self

    def parts(self) -> Parts:
        """Items are their inputs, so that what attends and what ranks are the same vectors."""
        options = self.blocks, self.heads, self.dropout, self.block
        history = Transformer(self.width, self.history, *options)
        return Parts(history, nn.Identity(), nn.Identity(), nn.Identity())


class MatchingMLP(Tower):
    """Both vectors side by side through a feed-forward net (study A of the reference studies).

    What is known of an item is its vector, and a user is the mean over the history; the layers are
    what `factors` leaves of `width`, and `hidden`.

    Attributes:
        hidden: width of the second layer.
        factors: elements of both vectors whose inner product is added to the net's score.
    """

    pairs: ClassVar[bool] = True

    name: Literal["matching_mlp"] = "matching_mlp"
    width: int = Field(default=256, ge=1)
    user_id: bool = False
    item_id: bool = False
    user_attributes: bool = False
    history: int = Field(default=200, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    score: Scores = "pair"
    hidden: int = Field(default=64, ge=1)
    factors: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _layers_are_left(self) -> "MatchingMLP":
        if self.factors >= self.width:
            raise ValueError(f"factors: expected less than width, {self.width}, got {self.factors}")
        return self

    def parts(self) -> Parts:
        """The first layer is split: what is looked up of an item, and the mean of it, are it."""
        history = Pooled(self.width, self.width, self.dropout, attention=False)
        head = PairLayers(self.width, self.factors, self.hidden, self.dropout)
        return Parts(history, nn.Identity(), nn.Identity(), nn.Identity(), head)


class NCF(Tower):
    """Neural collaborative filtering: inner products plus a net over ids (NeuMF; He et al. 2017).

    Half of each vector's elements are factors, the others go into the net.

    Attributes:
        hidden: width of the net's second layer.
    """

    pairs: ClassVar[bool] = True

    name: Literal["ncf"] = "ncf"
    width: int = Field(default=64, ge=2)
    user_attributes: bool = False
    item_attributes: bool = False
    history: int = Field(default=0, ge=0)
    score: Scores = "pair"
    hidden: int = Field(default=16, ge=1)

    def parts(self) -> Parts:
        """An id's embedding times a first layer is another embedding of the id."""
        history = None
        if self.history:
            history = Pooled(self.width, self.width, self.dropout, attention=False)
        head = PairLayers(self.width, self.width // 2, self.hidden, self.dropout)
        return Parts(history, nn.Identity(), nn.Identity(), nn.Identity(), head)


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} cannot be divided among {heads} heads")


TOWERS: Mapping[str, type[Tower]] = {
    "two_tower": TwoTower,
    "hybrid": Hybrid,
    "dssm": DSSM,
    "history_transformer": HistoryTransformer,
    "light_gcn": LightGCN,
    "matching_mlp": MatchingMLP,
    "ncf": NCF,
    **FACTORIZED,
}

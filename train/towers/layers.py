"""Layers of towers over looked-up embeddings."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from train.index.pair_index import PairHead
from train.ops.dropout import Dropout
from train.ops.tensors import products

Norm = Literal["none", "batch", "layer"]


class Residual(nn.Module):
    """`x + W2 relu(W1 x)`: `[m, d] -> [m, d]`; dropout on the input of the layer."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Dropout(dropout), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Transform rows `[m, d]`."""
        output: Tensor = inputs + self.layers(inputs)
        return output


def stack(width: int, hidden: tuple[int, ...], out: int, dropout: float) -> nn.Module:
    """Return a feed-forward net over looked-up rows: relu, then linear layers, `[m, w] -> [m, d]`.

    The embeddings that a row is looked up from are its first layer.
    """
    widths = [width, *hidden, out]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.ReLU(), Dropout(dropout), nn.Linear(before, after)]
    return nn.Sequential(*layers)


class Deep(nn.Module):
    """Relu, a residual layer and an output layer over looked-up rows, `[m, d] -> [m, d]`.

    With the embeddings that rows are looked up from these are the three layers of a DSSM's tower
    (Huang et al., CIKM 2013; the residual connection is He et al.'s, CVPR 2016).
    """

    def __init__(self, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(norm_of(norm, width), nn.ReLU(), Dropout(dropout))
        self.residual = nn.Linear(width, width)
        self.after = nn.Sequential(norm_of(norm, width), nn.ReLU(), Dropout(dropout))
        self.out = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Transform rows `[m, d]`."""
        hidden = self.inner(inputs)
        output: Tensor = self.out(self.after(hidden + self.residual(hidden)))
        return output


class PairLayers(nn.Module):
    """The trainable layers of `train.index.pair_index.PairHead`: a net over pairs and a product.

    The first F of the w elements of a vector are factors of the inner product. The others are one
    side's part of the net's first layer, whose outputs for a pair are the sum of both sides' parts.
    """

    def __init__(self, width: int, factors: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.factors = factors
        self.dropout = Dropout(dropout)
        self.wide = nn.Linear(width - factors, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users `[B, w]` with items `[n, w]` of all, or `[B, n, w]` of each: `[B, n]`."""
        both = self.dropout((users[:, None, self.factors :] + items[..., self.factors :]).relu())
        deep: Tensor = self.out(self.wide(both).relu())[..., 0]
        return deep + products(users[:, : self.factors], items[..., : self.factors])

    def trained(self) -> PairHead:
        """Return the trained head in numpy, as it is stored and searched."""
        weights = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        return PairHead(weights)


def norm_of(norm: Norm, width: int) -> nn.Module:
    """Return a normalization of rows `[m, width]`: none, over the batch or over each row."""
    modules = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    module: nn.Module = modules[norm](width)
    return module

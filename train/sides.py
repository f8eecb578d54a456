"""What towers are made of: ids and attributes of a side, and layers over them.

Shapes: n users or items of a side, m of them looked up, w width of what is looked up, d of vectors;
B users, M items, n negatives of each user.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from train.bags import means
from train.dropout import Dropout
from train.features import Features
from train.flat_rows import rows_and_places
from train.pair_head import PairHead
from train.ragged import Array

Norm = Literal["none", "batch", "layer"]


class Side(nn.Module):
    """Id embedding plus encoded attributes of the users or the items, summed: `[m] -> [m, w]`.

    Rows without training interactions have an id embedding of 0. So has one row more, the last,
    which stands for whoever is unknown and has no attributes either.
    """

    def __init__(
        self, features: Features, warm: Array, width: int, with_id: bool, with_attributes: bool
    ) -> None:
        super().__init__()
        self.count, self.width = len(warm), width
        self.id = nn.Embedding(self.count + 1, width, self.count) if with_id else None
        if self.id is not None:
            nn.init.normal_(self.id.weight, std=width**-0.5)
            with torch.no_grad():
                self.id.weight[torch.tensor(np.append(~warm, True))] = 0
        self.attributes = Attributes(features, width) if with_attributes else None
        self.nothing: Tensor
        self.register_buffer("nothing", torch.zeros(1, width), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Look up indices `[m]`, -1 for unknown."""
        row = torch.where(index < 0, self.count, index)
        return self._sum(
            len(row),
            None if self.id is None else self.id(row),
            None if self.attributes is None else self.attributes(row),
        )

    def everything(self) -> Tensor:
        """Return all rows and the unknown one, `[n + 1, w]`, without looking any of them up."""
        return self._sum(
            self.count + 1,
            None if self.id is None else self.id.weight,
            None if self.attributes is None else self.attributes.everything(),
        )

    def _sum(self, rows: int, *parts: Tensor | None) -> Tensor:
        present = [part for part in parts if part is not None]
        return sum(present[1:], present[0]) if present else self.nothing.expand(rows, -1)


class Attributes(nn.Module):
    """Category embeddings (mean over a row's codes) plus a linear map of the dense columns.

    The last row is empty, for whoever is unknown.
    """

    def __init__(self, features: Features, width: int) -> None:
        super().__init__()
        self.dense: Tensor
        self.codes: Tensor
        self.offsets: Tensor
        codes, offsets = features.categories.values, features.categories.offsets
        columns = features.dense.shape[1]
        dense = np.concatenate([features.dense, np.zeros((1, columns), np.float32)])
        self.register_buffer("dense", torch.tensor(dense), persistent=False)
        self.register_buffer("codes", torch.tensor(codes).long(), persistent=False)
        offsets = np.append(offsets, offsets[-1])
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.embedding = nn.Embedding(max(1, len(features.vocabulary)), width)
        nn.init.normal_(self.embedding.weight, std=0.1 * width**-0.5)
        self.linear = nn.Linear(columns, width, bias=False) if columns else None

    def forward(self, row: Tensor) -> Tensor:
        """Encode rows `[m]`: `[m, w]`."""
        start = self.offsets[row]
        lengths = self.offsets[row + 1] - start
        which, within = rows_and_places(lengths)
        codes = self.codes[start[which] + within]
        return self._encode(codes, lengths.cumsum(0) - lengths, self.dense[row])

    def everything(self) -> Tensor:
        """Encode all rows: `[n + 1, w]`."""
        return self._encode(self.codes, self.offsets[:-1], self.dense)

    def _encode(self, codes: Tensor, begins: Tensor, dense: Tensor) -> Tensor:
        bags = means(self.embedding.weight, codes, begins)
        return bags if self.linear is None else bags + self.linear(dense)


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

    What looks up a row is its first layer.
    """
    widths = [width, *hidden, out]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.ReLU(), Dropout(dropout), nn.Linear(before, after)]
    return nn.Sequential(*layers)


class Deep(nn.Module):
    """Relu, a residual layer and an output layer over looked-up rows, `[m, d] -> [m, d]`.

    With what looks up a row these are the three layers of a DSSM's tower (Huang et al., CIKM 2013;
    the residual connection is He et al.'s, CVPR 2016).
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
    """The layers of `pair_head.PairHead` over both halves, as they are trained.

    F of the w elements of a vector are factors, the others are halves of a first layer.
    """

    def __init__(self, width: int, factors: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.factors = factors
        self.dropout = Dropout(dropout)
        self.wide = nn.Linear(width - factors, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Score users `[B, w]` with items `[M, w]` of all, or `[B, n, w]` of each: `[B, n]`."""
        both = self.dropout((users[:, None, self.factors :] + items[..., self.factors :]).relu())
        deep: Tensor = self.out(self.wide(both).relu())[..., 0]
        return deep + products(users[:, : self.factors], items[..., : self.factors])

    def trained(self) -> PairHead:
        """Return the same in numpy."""
        weights = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        return PairHead(weights)


def products(users: Tensor, items: Tensor) -> Tensor:
    """Return inner products `[B, n]` of users `[B, d]` and items `[n, d]` or `[B, n, d]`."""
    return users @ items.T if items.dim() == 2 else torch.einsum("bd,bnd->bn", users, items)


def norm_of(norm: Norm, width: int) -> nn.Module:
    """Return a normalisation of rows `[m, width]`: none, over the batch or over each row."""
    modules = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    module: nn.Module = modules[norm](width)
    return module

"""LightGCN: embeddings propagated over the user-item graph (He et al., SIGIR 2020).

Shapes: U users and I items, and one row more of each for the unknown; B users, h history length,
m items looked up, d width of the vectors.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.towers.base import Tower, TowerLayers
from train.towers.batches import Unit
from train.towers.embeddings import SideEmbedding
from train.towers.model import TwoTowerModel


class LightGCN(Tower):
    """Graph convolution without weights over the user-item graph (LightGCN).

    A layer makes users sums of their items and items sums of their users, each neighbor divided by
    the square roots of both degrees; vectors are means over the layers, of which ids and attributes
    are the first. Training propagates over the whole graph at each step. Serving looks items up in
    a table and sums users over their histories, so that a new user has a vector as well.

    Attributes:
        layers: of propagation.
    """

    name: Literal["light_gcn"] = "light_gcn"
    history: int = Field(default=1000, ge=1)
    layers: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _there_is_no_layer_to_drop_out(self) -> "LightGCN":
        if self.dropout:
            raise ValueError(f"dropout: light_gcn has none; expected 0, got {self.dropout}")
        return self

    def build_layers(self) -> TowerLayers:
        """Sums and means alone, without weights."""
        history = HistorySum(self.width) if self.history else None
        mean = Mean(self.layers + 1, self.width)
        return TowerLayers(history, nn.Identity(), mean, mean)

    def context_length(self, asked: int) -> int:
        """0: the graph has the history of every user, also of those in a batch."""
        return 0

    def check_training(self, unit: Unit, context: str) -> None:
        """Refuse histories before each interaction: the graph has all interactions at once."""
        if context == "before":
            raise ValueError(
                f"train.context: {self.name} learns from the graph of all interactions; expected "
                "'all', got 'before'"
            )

    def looks_rows_up(self) -> bool:
        """Every step propagates all rows."""
        return False

    def build(self, inputs: TowerInputs) -> TwoTowerModel:
        """Return a freshly initialised module over these tables, without a graph."""
        return LightGCNModel(self, inputs)

    def prepare(self, model: TwoTowerModel, known: Interactions) -> None:
        """Hand the graph of the training interactions to a fresh module."""
        assert isinstance(model, LightGCNModel)
        counts = model.user_input.count, model.item_input.count
        model.graph = Graph.of(known, *counts, model.device)


@dataclass(frozen=True)
class Graph:
    """The symmetrically normalized interaction matrix: entries `1 / sqrt(deg(u) deg(i))`.

    Attributes:
        users: items of each user, sparse `[U + 1, I + 1]`.
        items: its transpose, users of each item.
        roots: square roots of the items' degrees, at least 1, `[I + 1, 1]`.
    """

    users: Tensor
    items: Tensor
    roots: Tensor

    @classmethod
    def of(cls, known: Interactions, n_users: int, n_items: int, device: torch.device) -> "Graph":
        """Return the graph of interactions on a device."""
        roots = _roots(known.user, n_users + 1), _roots(known.item, n_items + 1)
        weight = 1 / (roots[0][known.user] * roots[1][known.item])
        matrix = csr_matrix((weight, (known.user, known.item)), (n_users + 1, n_items + 1))
        users, items = (_sparse(side).to(device) for side in (matrix, matrix.T))
        return cls(users, items, torch.tensor(roots[1])[:, None].to(device))

    def propagated(self, users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Return the sums over all layers of users, `[U + 1, d]`, and the table of items.

        Args:
            users: layer 0 of all users, `[U + 1, d]`.
            items: layer 0 of all items, `[I + 1, d]`.
            layers: number of layers after it.

        Returns:
            Users; and items `[I + 1, 2 d]`: the sum over all layers, and a user's summand for the
            item in a history: the sum over all layers but the last, over the root of the degree.
        """
        all_users, all_items, but_last = users, items, items
        for _ in range(layers):
            but_last = all_items
            users, items = (
                _Product.apply(self.users, self.items, items),
                _Product.apply(self.items, self.users, users),
            )
            all_users, all_items = all_users + users, all_items + items
        return all_users, torch.cat([all_items, but_last / self.roots], dim=1)


def _roots(index: Any, size: int) -> Any:
    return np.sqrt(np.maximum(np.bincount(index, minlength=size), 1)).astype(np.float32)


def _sparse(matrix: Any) -> Tensor:
    """Return a CSR tensor; repeated interactions are summed already."""
    rows = matrix.tocsr()
    with warnings.catch_warnings():
        # Only products with dense matrices are needed, which torch has long had.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.tensor(rows.indptr),
            torch.tensor(rows.indices),
            torch.tensor(rows.data),
            rows.shape,
            check_invariants=False,
        )


class _Product(torch.autograd.Function):
    """A sparse matrix times a dense one, given its transpose.

    For the gradient torch's own product would transpose the matrix at each step.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradient.contiguous()


class ItemTable(SideEmbedding):
    """Item rows in a table `[I + 1, 2 d]`, propagated from ids and attributes in training.

    Before that, and without a graph, both halves of a row are the sum of ids and attributes.
    """

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self.table: Tensor
        self.register_buffer("table", super().everything().detach().repeat(1, 2))

    def forward(self, index: Tensor) -> Tensor:
        """Look up indices `[m]`, -1 for unknown."""
        return self.table[torch.where(index < 0, self.count, index)]

    def everything(self) -> Tensor:
        """Return the table."""
        return self.table

    def first_layer(self) -> Tensor:
        """Return ids and attributes of all, `[I + 1, d]`."""
        return super().everything()


class LightGCNModel(TwoTowerModel):
    """The module of LightGCN.

    Attributes:
        graph: of the training interactions, while it is trained.
    """

    item_embedding = ItemTable
    item_input: ItemTable

    def __init__(self, settings: LightGCN, inputs: TowerInputs) -> None:
        super().__init__(settings, inputs)
        self.layers = settings.layers
        self.graph: Graph | None = None

    def forward(self, users: Tensor, history: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Encode users `[B]` and items `[M]`; in training the graph stands for the histories."""
        if not self.training or self.graph is None:
            return super().forward(users, history, items)
        user_table, item_table = self._propagated(self.graph)
        user_rows, item_rows = F.embedding(users, user_table), F.embedding(items, item_table)
        return self.finish_users(user_rows), self.item_vectors(item_rows)

    def train(self, mode: bool = True) -> "LightGCNModel":
        """Set whether this is training; when training ends, items are propagated into the table."""
        if self.training and not mode and self.graph is not None:
            with torch.no_grad():
                self.item_input.table.copy_(self._propagated(self.graph)[1])
        super().train(mode)
        return self

    def _propagated(self, graph: Graph) -> tuple[Tensor, Tensor]:
        first = self.user_input.everything(), self.item_input.first_layer()
        # torch multiplies sparse matrices in float32 alone.
        with torch.autocast(self.device.type, enabled=False):
            return graph.propagated(*first, self.layers)


class HistorySum(nn.Module):
    """The sum of the second halves of a history's rows, divided by the root of their number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, inputs: Tensor, place: Tensor, present: Tensor) -> Tensor:
        """Sum the rows of `inputs` `[m, 2 d]` at `place` `[B, h]` where `present`: `[B, d]`."""
        ones = present.to(inputs.dtype)
        weight = ones / ones.sum(1, keepdim=True).clamp(min=1).sqrt()
        rows = inputs[:, self.width :]
        return F.embedding_bag(place, rows, per_sample_weights=weight, mode="sum")


class Mean(nn.Module):
    """Means over layers from sums over them, the first d elements: `[m, w] -> [m, d]`."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.layers, self.width = layers, width

    def forward(self, sums: Tensor) -> Tensor:
        """Divide the first d elements by the number of layers."""
        return sums[:, : self.width] / self.layers

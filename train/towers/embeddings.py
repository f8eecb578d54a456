"""Id and attribute embeddings of users and items."""

import numpy as np
import torch
from torch import Tensor, nn

from train.core.features import Features
from train.core.ragged import Array
from train.ops.embedding_bag import means
from train.ops.tensors import rows_and_places


class SideEmbedding(nn.Module):
    """Id embedding plus encoded attributes of the users or the items, summed: `[m] -> [m, w]`.

    Cold rows, without training interactions, have an id embedding of 0. So has an additional last
    row, which stands for unknown users or items and has no attributes either.
    """

    def __init__(
        self, features: Features, warm: Array, width: int, with_id: bool, with_attributes: bool
    ) -> None:
        super().__init__()
        self.count, self.width = len(warm), width
        # The padding index gets no gradient, so the unknown row stays 0.
        self.id = nn.Embedding(self.count + 1, width, self.count) if with_id else None
        if self.id is not None:
            nn.init.normal_(self.id.weight, std=width**-0.5)  # vectors of expected length 1
            with torch.no_grad():
                self.id.weight[torch.tensor(np.append(~warm, True))] = 0
        self.attributes = Attributes(features, width) if with_attributes else None
        self.zeros: Tensor
        self.register_buffer("zeros", torch.zeros(1, width), persistent=False)

    @property
    def is_sparse(self) -> bool:
        """Whether the id table's gradient has the rows that were looked up alone."""
        return self.id is not None and self.id.sparse

    def forward(self, index: Tensor) -> Tensor:
        """Look up indices `[m]`, -1 for unknown."""
        row = torch.where(index < 0, self.count, index)
        return self._sum(
            len(row),
            None if self.id is None else self.id(row),
            None if self.attributes is None else self.attributes(row),
        )

    def with_attributes(
        self, index: Tensor, dense: Tensor, codes: Tensor, starts: Tensor
    ) -> Tensor:
        """Look up ids `[m]`, -1 for unknown, and encode attributes that came with them.

        Args:
            index: ids.
            dense: scaled columns, `[m, D]`.
            codes: of the categories of all rows.
            starts: of each row's codes, `[m]`.
        """
        row = torch.where(index < 0, self.count, index)
        own = None if self.attributes is None else self.attributes.encode(codes, starts, dense)
        return self._sum(len(row), None if self.id is None else self.id(row), own)

    def everything(self) -> Tensor:
        """Return all rows and the unknown one, `[n + 1, w]`, without looking any of them up."""
        return self._sum(
            self.count + 1,
            None if self.id is None else self.id.weight,
            None if self.attributes is None else self.attributes.everything(),
        )

    def _sum(self, rows: int, *parts: Tensor | None) -> Tensor:
        present = [part for part in parts if part is not None]
        return sum(present[1:], present[0]) if present else self.zeros.expand(rows, -1)


class Attributes(nn.Module):
    """Category embeddings (mean over a row's codes) plus a linear map of the dense columns.

    An additional last row is empty: it stands for unknown users or items.
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
        # A tenth of the length of id embeddings: attributes begin as a small correction to them.
        nn.init.normal_(self.embedding.weight, std=0.1 * width**-0.5)
        self.linear = nn.Linear(columns, width, bias=False) if columns else None

    def forward(self, row: Tensor) -> Tensor:
        """Encode rows `[m]`: `[m, w]`."""
        start = self.offsets[row]
        lengths = self.offsets[row + 1] - start
        which, place = rows_and_places(lengths)
        codes = self.codes[start[which] + place]
        return self.encode(codes, lengths.cumsum(0) - lengths, self.dense[row])

    def everything(self) -> Tensor:
        """Encode all rows: `[n + 1, w]`."""
        return self.encode(self.codes, self.offsets[:-1], self.dense)

    def encode(self, codes: Tensor, starts: Tensor, dense: Tensor) -> Tensor:
        """Encode the codes of rows, each from its start `[m]` on, and their columns `[m, D]`."""
        bags = means(self.embedding.weight, codes, starts)
        return bags if self.linear is None else bags + self.linear(dense)

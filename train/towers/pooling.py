"""History pooling: mean or learned attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.ops.dropout import Dropout
from train.ops.embedding_bag import means


class Pooled(nn.Module):
    """A linear map of the mean of the history's inputs, or of their mean weighted by attention.

    Attention is a softmax over one learned score of each input (Bahdanau et al. 2015, without a
    query).
    """

    def __init__(self, inputs: int, width: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(inputs, width)
        self.attention = nn.Linear(inputs, 1, bias=False) if attention else None
        if inputs == width:
            nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Tensor, place: Tensor, present: Tensor) -> Tensor:
        """Pool the rows of `inputs` `[m, w]` at `place` `[B, h]` where `present`: `[B, d]`."""
        # A packed sum has shapes that depend on the data, which ONNX export refuses.
        if self.attention is None and not exporting():
            counts = present.sum(1)
            pooled = means(inputs, place[present], counts.cumsum(0) - counts)
        else:
            weight = self._weight(inputs, place, present)
            pooled = F.embedding_bag(place, inputs, per_sample_weights=weight, mode="sum")
        output: Tensor = self.linear(self.dropout(pooled))
        return output

    def _weight(self, inputs: Tensor, place: Tensor, present: Tensor) -> Tensor:
        if self.attention is None:
            ones = present.to(inputs.dtype)
            return ones / ones.sum(1, keepdim=True).clamp(min=1)
        scores = self.attention(inputs).flatten()[place]
        # Not -inf: the softmax of an empty history would be NaN.
        weight: Tensor = scores.masked_fill(~present, -1e9).softmax(1) * present
        # Under autocast scores are bfloat16, and embedding_bag needs weights of its inputs' type.
        return weight.to(inputs.dtype)


def exporting() -> bool:
    """Whether this is traced for export: then no shape may depend on the data."""
    return torch.compiler.is_exporting()

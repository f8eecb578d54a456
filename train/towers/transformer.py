"""Causal transformer over a history: SASRec and LiGR blocks."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.ops.dropout import Dropout
from train.towers.pooling import exporting

Block = Literal["sasrec", "ligr"]


class Transformer(nn.Module):
    """Causal transformer over the history in order (SASRec, Kang and McAuley, ICDM 2018).

    All but attention is computed for present items alone, never for the padding on the left.
    """

    def __init__(
        self, width: int, length: int, blocks: int, heads: int, dropout: float, block: Block
    ) -> None:
        super().__init__()
        self.position = nn.Embedding(length, width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(BLOCKS[block](width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.scale = width**0.5

    def forward(
        self, inputs: Tensor, place: Tensor, present: Tensor, every: bool = False
    ) -> Tensor:
        """Encode the histories: the state at each one's newest item, or at every item.

        Args:
            inputs: of items, `[m, d]`.
            place: of the histories' items in `inputs`, oldest first, `[B, h]`.
            present: where there is one, bool `[B, h]`.
            every: return the states at all present items, row by row.

        Returns:
            `[B, d]`, 0 for an empty history; or `[N, d]`.
        """
        # With items moved to the left, the causal mask hides the padding too.
        laid_out = _padded if exporting() else _packed
        row, order, place, length = laid_out(place, present)
        states = F.embedding(place, inputs) * self.scale + self.position(order)
        states = self.dropout(states)
        shape = len(present), length
        for block in self.blocks:
            states = block(states, row * length + order, shape)
        states = self.norm(states)
        return states if every else _newest(states, present)


def _packed(place: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return row, order in it and place of each present item, `[N]`, and the longest row."""
    row = torch.arange(len(present), device=present.device)[:, None].expand_as(present)
    order = (present.cumsum(1) - 1)[present]
    return row[present], order, place[present], int(order.max()) + 1 if len(order) else 0


def _padded(place: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return the same of all `[B h]` positions; padding comes last in its row."""
    order = torch.arange(place.shape[1], device=place.device).expand_as(place)
    row = torch.arange(len(place), device=place.device)[:, None].expand_as(place)
    missing = place.shape[1] - present.sum(1, keepdim=True)
    moved = place.gather(1, (order + missing).clamp(max=place.shape[1] - 1))
    return row.flatten(), order.flatten(), moved.flatten(), place.shape[1]


def _newest(states: Tensor, present: Tensor) -> Tensor:
    """Return the last state of each row, `[B, d]`; 0 where there is none."""
    count = present.sum(1)
    if exporting():
        rows = states.unflatten(0, present.shape)
        last = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[1])
        newest: Tensor = rows.gather(1, last)[:, 0] * (count > 0)[:, None]
        return newest
    last = count.cumsum(0) - 1
    padded = torch.cat([states, states.new_zeros(1, states.shape[1])])
    return padded[torch.where(count > 0, last, len(states))]


class Attention(nn.Module):
    """Causal attention of several heads over states `[N, d]` of B histories."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, queries: Tensor, states: Tensor, place: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """Attend from `queries` `[N, d]` to `states` `[N, d]` of the same history and no later.

        Args:
            queries: states that attend.
            states: states attended to, which become keys and values.
            place: of each in the padded histories, flat, `[N]`.
            shape: of the padded histories, B and h.
        """
        parts = [self.query(queries), *self.key_value(states).chunk(2, dim=1)]
        query, key, value = (self._padded(part, place, shape) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        output: Tensor = self.out(
            mixed.transpose(1, 2).flatten(0, 1).index_select(0, place).flatten(1)
        )
        return output

    def _padded(self, values: Tensor, place: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return `[B, heads, h, d / heads]`."""
        padded = values.new_zeros(shape[0] * shape[1], values.shape[1])
        padded = padded.index_copy(0, place, values)
        return padded.view(*shape, self.heads, values.shape[1] // self.heads).transpose(1, 2)


class SASRecBlock(nn.Module):
    """Attention from normalized states, then a ReLU layer, both with residual connections."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.dropout = Dropout(dropout)
        self.wide, self.narrow = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, states: Tensor, place: Tensor, shape: tuple[int, int]) -> Tensor:
        """Transform states `[N, d]`."""
        queries = self.before(states)
        states = queries + self.dropout(self.attention(queries, states, place, shape))
        states = self.between(states)
        hidden = self.dropout(F.relu(self.wide(states)))
        output: Tensor = states + self.dropout(self.narrow(hidden))
        return output


class LiGRBlock(nn.Module):
    """Attention and SwiGLU with gated residual connections (LiGR, Borisyuk et al. 2025).

    eSASRec (Tikhonovich et al., RecSys 2025) puts it in the place of SASRec's block.
    """

    def __init__(self, width: int, heads: int, dropout: float, factor: int = 4) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = Dropout(dropout)
        self.wide = nn.Linear(width, 2 * factor * width, bias=False)
        self.narrow = nn.Linear(factor * width, width, bias=False)

    def forward(self, states: Tensor, place: Tensor, shape: tuple[int, int]) -> Tensor:
        """Transform states `[N, d]`."""
        normed = self.before(states)
        attended = self.dropout(self.attention(normed, normed, place, shape))
        states = states + torch.sigmoid(self.gates[0](states)) * attended
        hidden, gate = self.wide(self.between(states)).chunk(2, dim=1)
        fed = self.dropout(self.narrow(self.dropout(F.silu(gate) * hidden)))
        output: Tensor = states + torch.sigmoid(self.gates[1](states)) * fed
        return output


BLOCKS: dict[Block, type[SASRecBlock] | type[LiGRBlock]] = {
    "sasrec": SASRecBlock,
    "ligr": LiGRBlock,
}


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError where attention heads do not divide the width."""
    if width % heads:
        raise ValueError(f"width {width} cannot be divided among {heads} heads")

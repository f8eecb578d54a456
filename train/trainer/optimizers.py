"""Optimizers of towers: AdamW over all weights, or over all but the id tables.

A step of AdamW reads and writes every row of a table, which for a million rows is a gigabyte, of
which a batch has asked for a thousandth. A row-wise optimizer touches the rows of the batch alone.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from train.towers.model import TwoTowerModel
from train.trainer.schedule import Schedule

Name = Literal["auto", "adamw", "rowwise_adam", "rowwise_adagrad"]

# Rows of id tables from which on a step of AdamW takes longer than all else in it.
LARGE = 250_000
# Of AdamW's second moments, here and there.
BETA = 0.999
EPSILON = 1e-8


def is_rowwise(name: Name, rows: int, apart: bool) -> bool:
    """Whether id tables are stepped by rows.

    Args:
        name: of the optimizer.
        rows: of the id tables of users and items together.
        apart: whether a step asks for some rows alone, so that "auto" may choose.
    """
    return name.startswith("rowwise") or (name == "auto" and apart and rows >= LARGE)


class Optimizers:
    """The optimizers of one model, used as one.

    Args:
        model: whose weights are stepped.
        schedule: rate and decay.
        name: of the optimizer.
        rowwise: whether id tables are stepped by rows; their gradients are sparse from now on.
        workers: that step together.
    """

    def __init__(
        self, model: TwoTowerModel, schedule: Schedule, name: Name, rowwise: bool, workers: int
    ) -> None:
        options: Any = {"lr": schedule.learning_rate, "weight_decay": schedule.weight_decay}
        tables = model.id_tables() if rowwise else []
        for table in tables:
            table.sparse = True
        adagrad = name == "rowwise_adagrad"
        found = [table.weight for table in tables]
        self.rows = Rowwise(found, adagrad=adagrad, workers=workers, **options) if found else None
        rest = list(_beside(tables, model).values())
        self.dense = torch.optim.AdamW(rest, fused=True, **options) if rest else None

    def each(self) -> Iterator[torch.optim.Optimizer]:
        """Yield those that there are."""
        yield from (one for one in (self.dense, self.rows) if one is not None)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self.each():
            one.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take a step by the gradients."""
        for one in self.each():
            one.step()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all weights."""
        for one in self.each():
            for group in one.param_groups:
                group["lr"] = rate

    def settle(self) -> None:
        """Make the tables what they are to be read as; see `Rowwise.settle`."""
        if self.rows is not None:
            self.rows.settle()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        if self.rows is None:
            return {} if self.dense is None else self.dense.state_dict()
        states = {"rows": self.rows.state_dict()}
        return states if self.dense is None else states | {"dense": self.dense.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint has kept."""
        if self.rows is not None:
            self.rows.load_state_dict(state["rows"])
        if self.dense is not None:
            self.dense.load_state_dict(state["dense"] if self.rows is not None else state)


class Rowwise(torch.optim.Optimizer):
    """Row-wise Adam without momentum, or row-wise Adagrad, of tables with sparse gradients.

    A row has one second moment, the mean over its elements (Mudigere et al., ISCA 2022): 12 B a row
    of state instead of the 8 w of AdamW. While a row is in no batch, its moment and its weights
    decay as AdamW's do, which is made up for when it is next in one: of a table of width 1 each
    step is that of AdamW with betas of 0 and 0.999, to rounding.

    Args:
        tables: weights `[n, w]`.
        lr: learning rate.
        weight_decay: decoupled from the gradient, as AdamW's.
        adagrad: add second moments up, and let none decay (Duchi et al., JMLR 2011).
        workers: whose gradients are averaged.
    """

    def __init__(
        self,
        tables: Sequence[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        adagrad: bool = False,
        workers: int = 1,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "steps": 0, "shrunk": 0.0}
        super().__init__(tables, defaults)
        self._adagrad, self._workers = adagrad, workers
        for table in tables:
            zeros = torch.zeros(len(table), device=table.device)
            # By row: the second moment, the step that it is of, and the log of the factor by which
            # weight decay has shrunk the row so far.
            self.state[table] = {name: zeros.clone() for name in ("square", "last", "shrunk")}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step the rows that have gradients.

        Args:
            closure: none is called.
        """
        [group] = self.param_groups
        group["steps"] += 1
        group["shrunk"] += math.log(max(1 - group["lr"] * group["weight_decay"], EPSILON))
        parts = [_rows_of(table) for table in group["params"]]
        if self._workers > 1:
            parts = _gathered(parts, self._workers)
        for table, (index, gradient) in zip(group["params"], parts, strict=True):
            self._step(table, index, gradient / self._workers, group)

    def _step(self, table: Tensor, index: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, steps = self.state[table], group["steps"]
        square, moment = state["square"][index], gradient.square().mean(1)
        if self._adagrad:
            square = square + moment
            scale = square.sqrt()
        else:
            kept = torch.pow(BETA, steps - state["last"][index])
            square = square * kept + (1 - BETA) * moment
            scale = (square / (1 - BETA**steps)).sqrt()
        rows = table[index] * (group["shrunk"] - state["shrunk"][index]).exp()[:, None]
        rows -= (group["lr"] / (scale + EPSILON))[:, None] * gradient
        table.index_copy_(0, index, rows)
        state["square"].index_copy_(0, index, square)
        state["last"].index_fill_(0, index, steps)
        state["shrunk"].index_fill_(0, index, group["shrunk"])

    @torch.no_grad()
    def settle(self) -> None:
        """Decay all rows up to now: between two calls, rows that were in no batch are too long."""
        [group] = self.param_groups
        for table in group["params"]:
            shrunk = self.state[table]["shrunk"]
            table *= (group["shrunk"] - shrunk).exp()[:, None]
            shrunk.fill_(group["shrunk"])


def leave_to_rowwise(model: TwoTowerModel) -> bool:
    """Have DDP leave the id tables alone, whose gradients `Rowwise` averages; is any weight left?

    All-reducing a table would send all of it, and NCCL has no sparse all-reduce.
    """
    rest = _beside(model.id_tables(), model)
    names = [name for name, _ in model.named_parameters() if name not in rest]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    return bool(rest)


def _beside(tables: Sequence[nn.Embedding], model: TwoTowerModel) -> dict[str, Tensor]:
    """Return the weights of a model that are those of no table, by name."""
    own = {id(table.weight) for table in tables}
    return {name: of for name, of in model.named_parameters() if id(of) not in own}


Rows = tuple[Tensor, Tensor]
"""Distinct rows of a table, int64 `[m]`, and their gradients, float32 `[m, w]`."""


def _rows_of(table: Tensor) -> Rows:
    """Return the rows of a table that have gradients."""
    gradient = table.grad
    if gradient is None:
        return torch.empty(0, dtype=torch.int64, device=table.device), table[:0]
    if not gradient.is_sparse:  # of what reads the whole table
        return torch.arange(len(table), device=table.device), gradient
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def _gathered(parts: Sequence[Rows], workers: int) -> list[Rows]:
    """Return the sums over all workers of the gradients of tables.

    Two calls for all tables together: how many rows each has, and then these, in one buffer.
    """
    device = parts[0][0].device
    counts = torch.tensor([len(index) for index, _ in parts], device=device)
    lengths = torch.stack(_all_gathered(counts, workers)).tolist()
    # The bits of all indices, which are aligned at the front, then all gradients.
    bits = [index.view(torch.float32) for index, _ in parts]
    flat = torch.cat([*bits, *(values.flatten() for _, values in parts)])
    width = [values.shape[1] for _, values in parts]
    sizes = [sum(n * (2 + w) for n, w in zip(of, width, strict=True)) for of in lengths]
    flat = torch.cat([flat, flat.new_zeros(max(sizes) - len(flat))])
    unpacked = [
        _unpacked(buffer, of, width)
        for buffer, of in zip(_all_gathered(flat, workers), lengths, strict=True)
    ]
    return [_summed(rows) for rows in zip(*unpacked, strict=True)]


def _unpacked(buffer: Tensor, lengths: Sequence[int], width: Sequence[int]) -> list[Rows]:
    """Return the rows of each table from a worker's buffer."""
    sizes = [2 * n for n in lengths] + [n * w for n, w in zip(lengths, width, strict=True)]
    parts = buffer[: sum(sizes)].split(sizes)
    tables = zip(parts[: len(lengths)], parts[len(lengths) :], width, strict=True)
    return [(bits.view(torch.int64), values.view(-1, w)) for bits, values, w in tables]


def _all_gathered(value: Tensor, workers: int) -> list[Tensor]:
    found = [torch.empty_like(value) for _ in range(workers)]
    torch.distributed.all_gather(found, value)
    return found


def _summed(rows: Sequence[Rows]) -> Rows:
    """Return the sums of gradients by row, each row once."""
    index, values = (torch.cat(part) for part in zip(*rows, strict=True))
    distinct, place = torch.unique(index, return_inverse=True)
    return distinct, values.new_zeros(len(distinct), values.shape[1]).index_add_(0, place, values)

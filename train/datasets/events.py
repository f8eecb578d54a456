"""The table of interactions: which columns it has, and what becomes of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.blocks import BLOCK, row_blocks
from train.datasets.attributes import AttributeTable, present
from train.datasets.columns import Column, coded, fail, integers
from train.datasets.convert import numbers, single
from train.datasets.kinds import Kinds, with_kinds
from train.datasets.readers import TableFile
from train.datasets.times import TimeForm, Times, timestamps

logger = logging.getLogger(__name__)
# Column of the times where none is named.
TIMESTAMP = "timestamp"


@dataclass(frozen=True)
class Events:
    """A table of interactions, and the names of its columns.

    Attributes:
        form: of the times.
        timestamp: None for the column `timestamp` where there is one, and no times where not.
        kinds: of events, where they are told apart.
    """

    source: TableFile
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str | None = "timestamp"
    form: TimeForm = field(default_factory=TimeForm)
    weight: str | None = None
    kinds: Kinds = field(default_factory=Kinds)

    def read(self, inside: AttributeTable | None = None) -> dict[str, Column]:
        """Read the columns, still as they are in the file.

        Args:
            inside: a table of attributes whose columns are here.
        """
        names = [self.user_id, self.item_id]
        names += [name for name in (self.timestamp, self.weight) if name]
        names += [self.kinds.column] if self.kinds.weights else []
        columns: dict[str, None] = {}

        def choose(where: str, there: Sequence[str]) -> list[str]:
            columns.update(dict.fromkeys(there))
            timed = self.timestamp is None and TIMESTAMP in there
            also = inside.choose(where, there) if inside else []
            wanted = present(where, there, [*names, TIMESTAMP] if timed else names)
            return list(dict.fromkeys([*wanted, *also]))

        read = self.source.read(choose, (self.user_id, self.item_id))
        if self.time_column not in read:
            logger.warning(
                "%s: no column %r, and data.timestamp names none: all interactions count as of one "
                "moment; the columns are %s",
                *(self.source.location, TIMESTAMP, ", ".join(columns)),
            )
        return read

    @property
    def time_column(self) -> str:
        """The column of the times, if there is one."""
        return self.timestamp or TIMESTAMP

    def times(self, read: Mapping[str, Column]) -> Times:
        """Return the times of the interactions; all 0 where there are none.

        Numbers that count each user's interactions are an order, which no other numbers look like.
        """
        if self.time_column in read:
            times, form = read[self.time_column].plain(), self.form
            if form == TimeForm() and are_positions(read[self.user_id], times):
                logger.info("%s: it counts each user's interactions: an order", times.where)
                form = TimeForm("order")
            return timestamps(times, form)
        return Times(np.zeros(len(read[self.user_id].values), np.int64), 1, "")


def are_positions(users: Column, values: Column) -> bool:
    """Whether values number the rows of each user, from 0 or from 1."""
    whole = values.values
    if values.is_text:
        # What is no integer in the first rows need not be looked at in all.
        head = integers(whole.slice(0, 1000))
        whole = None if head is None else integers(whole)
    if whole is None or not pa.types.is_integer(whole.type) or whole.null_count:
        return False
    numbered = whole.cast(pa.int64(), safe=False).to_numpy()
    if numbered.min() not in (0, 1) or users.values.null_count:
        return False
    codes = coded(users)[1]
    order = np.lexsort((numbered, codes))
    starts = np.searchsorted(codes[order], codes[order], side="left")
    places = np.arange(len(order)) - starts
    return bool((numbered[order] - places == numbered.min()).all())


def interactions(
    events: Events,
    read: Mapping[str, Column],
    times: Times,
    ids: tuple[pa.ChunkedArray, pa.ChunkedArray],
) -> pa.Table:
    """Return the interactions in canonical columns; see `Tables`.

    Args:
        events: the names of its columns.
        read: these columns.
        times: as `Events.times` returns them.
        ids: of users and of items.

    Raises:
        ValueError: a weight is missing or no number.
    """
    ticks, per_second = times.ticks, times.per_second
    columns = {
        "user_id": ids[0],
        "item_id": ids[1],
        "timestamp": ticks if per_second == 1 else ticks // per_second,
        "weight": _weights(read[events.weight]) if events.weight else _ones(len(ticks)),
    }
    # Whole seconds lose an order that finer times had.
    fraction = ticks % per_second if per_second > 1 else ticks[:0]
    columns |= {"fraction": fraction} if fraction.any() else {}
    table = pa.table(columns)
    if events.kinds.weights:
        return with_kinds(table, events.kinds, read[events.kinds.column])
    return table


def _ones(count: int) -> pa.ChunkedArray:
    """Return so many 1s, of which one block is in memory."""
    block = pa.array(np.ones(min(count, BLOCK), np.float32))
    sizes = (rows.stop - rows.start for rows in row_blocks(count))
    return pa.chunked_array([block.slice(0, size) for size in sizes], pa.float32())


def _weights(column: Column) -> pa.ChunkedArray:
    """Return weights in the type that they were read in, float32 or float64."""
    weight = numbers(column)
    if weight.null_count:
        fail(column, pc.is_null(weight), "a weight in every row", "Fill these rows in")
    single(column, weight)
    read_as = column.plain().values.type
    return weight.cast(pa.float32()) if pa.types.is_float32(read_as) else weight

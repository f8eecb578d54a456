"""From files to `Tables`: columns chosen, checked and put under their canonical names."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.schema import Kind, Tables
from train.datasets.columns import (
    CONVERT,
    Column,
    categories,
    embedding,
    fail,
    integers,
    mask,
    matches,
    numbers,
    text,
    wrong_type,
)
from train.datasets.readers import TableFile
from train.datasets.times import TimeUnit, timestamps

logger = logging.getLogger(__name__)
# Column of the times where none is named.
TIMESTAMP = "timestamp"
_INTEGER = r"^(0|-?[1-9][0-9]*)$"


@dataclass(frozen=True)
class Events:
    """A table of interactions, and the names of its columns.

    Attributes:
        timestamp: None for the column `timestamp` where there is one, and no times where not.
    """

    source: TableFile
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str | None = "timestamp"
    timestamp_unit: TimeUnit = "s"
    weight: str | None = None

    def read(self) -> dict[str, Column]:
        """Read the columns, still as they are in the file."""
        names = [self.user_id, self.item_id]
        names += [name for name in (self.timestamp, self.weight) if name]
        columns: dict[str, None] = {}

        def choose(where: str, there: Sequence[str]) -> list[str]:
            columns.update(dict.fromkeys(there))
            timed = self.timestamp is None and TIMESTAMP in there
            return _present(where, there, [*names, TIMESTAMP] if timed else names)

        read = self.source.read(choose)
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


@dataclass(frozen=True)
class AttributeTable:
    """A table of the attributes of items or users, and the names of its columns.

    Attributes:
        columns: kind of each attribute. A name that is no column but the start of several makes
            one embedding of them (`clip_text_` of `clip_text_0`, `clip_text_1`, ...).
        separator: between the categories of a text column.
    """

    source: TableFile
    id: str
    columns: Mapping[str, Kind]
    title: str | None = None
    separator: str = "|"

    def read(self) -> dict[str, Column]:
        """Read the columns, still as they are in the file."""
        return self.source.read(self._choose)

    def _choose(self, where: str, there: Sequence[str]) -> list[str]:
        chosen = _present(where, there, [self.id, self.title] if self.title else [self.id])
        for name, kind in self.columns.items():
            group = _prefixed(name, there) if kind == "embedding" else []
            chosen += group or _present(where, there, [name])
        return list(dict.fromkeys(chosen))

    def convert(self, read: Mapping[str, Column]) -> dict[str, pa.ChunkedArray]:
        """Return title (where there is one) and attributes under their canonical names."""
        title = {"title": text(read[self.title])} if self.title else {}
        return title | {name: self._attribute(name, read) for name in self.columns}

    def _attribute(self, name: str, read: Mapping[str, Column]) -> pa.ChunkedArray:
        kind = self.columns[name]
        if kind == "embedding":
            return embedding([read[n] for n in _prefixed(name, list(read)) or [name]])
        if kind == "categories":
            return categories(read[name], self.separator)
        return CONVERT[kind](read[name])


def read_tables(
    events: Events, items: AttributeTable | None, users: AttributeTable | None
) -> Tables:
    """Read, check and convert a data set; a side without a table of its own has ids only.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a column is missing, or holds what it should not; the message names file,
            column, row count and the first bad values.
    """
    read = events.read()
    item_read, user_read = (side.read() if side else {} for side in (items, users))
    item_ids = _ids(read[events.item_id], item_read.get(items.id) if items else None)
    user_ids = _ids(read[events.user_id], user_read.get(users.id) if users else None)
    item_table = {"item_id": item_ids[1]} | (items.convert(item_read) if items else {})
    item_table.setdefault("title", pa.chunked_array([pa.nulls(len(item_ids[1]), pa.string())]))
    user_table = {"user_id": user_ids[1]} | (users.convert(user_read) if users else {})
    return Tables(
        interactions=_interactions(events, read, user_ids[0], item_ids[0]),
        items=pa.table(item_table),
        users=pa.table(user_table),
        item_columns=items.columns if items else {},
        user_columns=users.columns if users else {},
    )


def at_least(tables: Tables, min_weight: float | None) -> Tables:
    """Return the tables with only the interactions of at least this weight; None keeps all.

    Raises:
        ValueError: none is left.
    """
    if min_weight is None:
        return tables
    weight = tables.interactions["weight"]
    kept = tables.interactions.filter(pc.greater_equal(weight, min_weight))
    if not len(kept):
        raise ValueError(
            f"no interaction has a weight of at least {min_weight:g}: the {len(weight):,} weights "
            f"go up to {pc.max(weight).as_py():g}; lower min_weight"
        )
    return replace(tables, interactions=kept)


def _present(where: str, there: Sequence[str], names: Sequence[str]) -> list[str]:
    missing = [name for name in dict.fromkeys(names) if name not in there]
    if missing:
        raise ValueError(
            f"{where}: no column {', '.join(map(repr, missing))}; it has: {', '.join(there)}. "
            "Set the column names in [data]"
        )
    return list(names)


def _prefixed(name: str, there: Sequence[str]) -> list[str]:
    """Return the columns `name0`, `name1`, ... in the order of their numbers."""
    if name in there:
        return []
    columns = [column for column in there if column.startswith(name)]
    tails = [column.removeprefix(name) for column in columns]
    if all(tail.isdecimal() for tail in tails):
        return [columns[i] for i in np.argsort([int(tail) for tail in tails], kind="stable")]
    return sorted(columns)


def _interactions(
    events: Events, read: Mapping[str, Column], users: pa.ChunkedArray, items: pa.ChunkedArray
) -> pa.Table:
    if events.time_column in read:
        ticks, per_second = timestamps(read[events.time_column], events.timestamp_unit)
    else:
        ticks, per_second = np.zeros(len(users), np.int64), 1
    if events.weight:
        weight = numbers(read[events.weight])
        if weight.null_count:
            missing = pc.is_null(weight)
            fail(read[events.weight], missing, "a weight in every row", "Fill these rows in")
    else:
        weight = pa.chunked_array([np.ones(len(ticks), np.float32)])
    columns = {
        "user_id": users,
        "item_id": items,
        "timestamp": ticks // per_second,
        "weight": weight.cast(pa.float32(), safe=False),
    }
    if per_second == 1:
        return pa.table(columns)
    # Whole seconds lose an order that finer times had.
    fraction = ticks % per_second
    columns |= {"fraction": fraction} if fraction.any() else {}
    return pa.table(columns).take(np.argsort(ticks, kind="stable"))


def _ids(event: Column, own: Column | None) -> list[pa.ChunkedArray]:
    """Return the ids of the interactions and of the side's table, in one type."""
    if own is None:
        ids = one_id_type([event])[0]
        return [ids, pa.chunked_array([pc.unique(ids)])]
    ids, own_ids = one_id_type([event, own])
    _check_unique(Column(own.source, own.name, own_ids))
    return [ids, own_ids]


def one_id_type(columns: Sequence[Column]) -> list[pa.ChunkedArray]:
    """Return the ids of one kind in every table that names them: all int64, or all strings.

    Text becomes int64 where every value of every column is an integer written the plain way:
    `"7"` is, `"007"` is not.

    Raises:
        ValueError: an id is missing or neither integer nor string, or one table has integers and
            the other does not.
    """
    columns = [_present_ids(column.plain()) for column in columns]
    if not all(column.is_text for column in columns):
        return [_as_integers(column, columns) for column in columns]
    parsed = [_plain_integers(column) for column in columns]
    whole = [values for values in parsed if values is not None]
    return whole if len(whole) == len(columns) else [column.values for column in columns]


def _present_ids(column: Column) -> Column:
    if not (column.is_text or pa.types.is_integer(column.values.type)):
        wrong_type(column, "ids, integers or strings")
    missing = mask(pc.is_null(column.values))
    if column.is_text:
        missing = missing | mask(pc.equal(column.values, ""))
    if missing.any():
        fail(column, missing, "an id in every row", "Fill these rows in, or drop them")
    return column


def _plain_integers(column: Column) -> pa.ChunkedArray | None:
    if not pc.all(matches(column.values, _INTEGER), min_count=0).as_py():
        return None
    return integers(column.values)


def _as_integers(column: Column, columns: Sequence[Column]) -> pa.ChunkedArray:
    values = _plain_integers(column) if column.is_text else column.values.cast(pa.int64())
    if values is None:
        other = next(c for c in columns if not c.is_text)
        bad = ~mask(matches(column.values, _INTEGER))
        expected = f"integers, as in {other.source}, column {other.name!r}"
        fail(column, bad, expected, "Write the ids the same way in both")
    return values


def _check_unique(column: Column) -> None:
    codes = column.values.combine_chunks().dictionary_encode()
    if len(codes.dictionary) == len(column.values):
        return
    index = codes.indices.to_numpy()
    repeated = np.bincount(index)[index] > 1
    fail(column, repeated, "every id once", "Keep one row an id")

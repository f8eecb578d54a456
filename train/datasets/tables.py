"""From files to `Tables`: columns chosen, checked and put under their canonical names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.core.schema import Tables, Ties
from train.datasets.attributes import AttributeTable
from train.datasets.columns import Column, fail, integers, mask, matches, wrong_type
from train.datasets.events import Events, interactions
from train.datasets.flat import last_rows

_INTEGER = r"^(0|-?[1-9][0-9]*)$"


def read_tables(
    events: Events,
    items: AttributeTable | None,
    users: AttributeTable | None,
    ties: Ties = "hash",
) -> Tables:
    """Read, check and convert a data set; a side without a table of its own has ids only.

    Args:
        events: the interactions.
        items: attributes of items; of each id's last interaction where their source is that of the
            interactions.
        users: attributes of users.
        ties: what decides between an id's rows of one time; see `flat.last_rows`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a column is missing, or holds what it should not; the message names file,
            column, row count and the first bad values.
    """
    inside = items if items and items.source == events.source else None
    apart = None if inside else items
    read = events.read(inside)
    item_read, user_read = (side.read() if side else {} for side in (apart, users))
    item_ids = _ids(read[events.item_id], item_read.get(apart.id) if apart else None)
    user_ids = _ids(read[events.user_id], user_read.get(users.id) if users else None)
    times = events.times(read)
    if inside:
        item_table = _last_attributes(inside, read, item_ids[0], times[0], ties)
    else:
        item_table = {"item_id": item_ids[1]} | (items.convert(item_read) if items else {})
    nothing = pa.nulls(len(item_table["item_id"]), pa.string())
    item_table.setdefault("title", pa.chunked_array([nothing]))
    user_table = {"user_id": user_ids[1]} | (users.convert(user_read) if users else {})
    return Tables(
        interactions=interactions(events, read, times, (user_ids[0], item_ids[0])),
        items=pa.table(item_table),
        users=pa.table(user_table),
        item_columns=items.columns if items else {},
        user_columns=users.columns if users else {},
    )


def _last_attributes(
    items: AttributeTable,
    read: Mapping[str, Column],
    ids: pa.ChunkedArray,
    times: Array,
    ties: Ties,
) -> dict[str, pa.ChunkedArray]:
    """Return the ids of items, each once, and the attributes of their last interactions."""
    columns = items.convert(read)
    rows = pa.array(last_rows(ids, times, columns, ties))
    return {name: column.take(rows) for name, column in {"item_id": ids, **columns}.items()}


def at_least(tables: Tables, min_weight: float | None) -> Tables:
    """Return the tables with only the interactions of at least this weight; None keeps all.

    Raises:
        ValueError: none is left.
    """
    if min_weight is None:
        return tables
    weight = tables.interactions["weight"]
    enough = pc.greater_equal(weight, min_weight)
    if "role" in tables.interactions.column_names:
        # What hides an item has a negative weight, which is no small one.
        enough = pc.or_(enough, pc.less(tables.interactions["role"], 0))
    kept = tables.interactions.filter(enough)
    if not len(kept):
        raise ValueError(
            f"no interaction has a weight of at least {min_weight:g}: the {len(weight):,} weights "
            f"go up to {pc.max(weight).as_py():g}; lower min_weight"
        )
    return replace(tables, interactions=kept)


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

"""From files to `Tables`: columns chosen, checked and put under their canonical names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.core.schema import Tables, Ties
from train.datasets.attributes import AttributeTable
from train.datasets.columns import Column, fail
from train.datasets.events import Events, interactions
from train.datasets.flat import last_rows
from train.datasets.ids import IdType, check_joined, check_unique, ids_of, missing_ids
from train.datasets.reading import files_read, told_ids


@dataclass(frozen=True)
class IdRules:
    """What ids are.

    Attributes:
        users: type of those of users; None for what they look like.
        items: the same of items.
        drop_missing: leave out rows without an id, which are refused otherwise.
    """

    users: IdType | None = None
    items: IdType | None = None
    drop_missing: bool = False


def read_tables(
    events: Events,
    items: AttributeTable | None,
    users: AttributeTable | None,
    ties: Ties = "hash",
    rules: IdRules = IdRules(),
) -> Tables:
    """Read, check and convert a data set; a side without a table of its own has ids only.

    Args:
        events: the interactions.
        items: attributes of items; of each id's last interaction where their source is that of the
            interactions.
        users: attributes of users.
        ties: what decides between an id's rows of one time; see `flat.last_rows`.
        rules: of ids.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a column is missing, or holds what it should not; the message names file,
            column, row count and the first bad values.
    """
    inside = items if items and items.source == events.source else None
    apart = None if inside else items
    read = events.read(inside)
    rows = len(read[events.user_id].values)
    if rules.drop_missing:
        read = _with_ids(read, events.user_id, events.item_id)
    item_read, user_read = (
        _side(side, rules.drop_missing) if side else {} for side in (apart, users)
    )
    item_ids, item_facts = _ids(read[events.item_id], item_read, apart, rules.items)
    user_ids, user_facts = _ids(read[events.user_id], user_read, users, rules.users)
    times = events.times(read)
    if inside:
        item_table = _last_attributes(inside, read, item_ids[0], times.ticks, ties)
    else:
        item_table = {"item_id": item_ids[1]} | (items.convert(item_read) if items else {})
    nothing = pa.nulls(len(item_table["item_id"]), pa.string())
    item_table.setdefault("title", pa.chunked_array([nothing]))
    user_table = {"user_id": user_ids[1]} | (users.convert(user_read) if users else {})
    table = interactions(events, read, times, (user_ids[0], item_ids[0]))
    kept = len(read[events.user_id].values)
    tables = {"interactions": events.source}
    tables |= {"items": apart.source} if apart else {}
    tables |= {"users": users.source} if users else {}
    return Tables(
        interactions=table,
        items=pa.table(item_table),
        users=pa.table(user_table),
        item_columns=items.columns if items else {},
        user_columns=users.columns if users else {},
        reading={
            "files": {name: files_read(source) for name, source in tables.items()},
            "rows": rows,
            "dropped": {"without an id": rows - kept, "of events that weigh 0": kept - len(table)},
            "ids": {events.user_id: user_facts, events.item_id: item_facts},
            "times": {"column": events.time_column if times.read_as else None, "as": times.read_as},
        },
    )


def _with_ids(read: Mapping[str, Column], *names: str) -> dict[str, Column]:
    """Return the rows that have an id in each of the named columns."""
    missing = np.logical_or.reduce([missing_ids(read[name]) for name in names])
    if missing.all():
        fail(read[names[0]], missing, f"rows with {' and '.join(names)}", "Are these the columns?")
    return (
        {name: column.kept(~missing) for name, column in read.items()}
        if missing.any()
        else {**read}
    )


def _side(side: AttributeTable, drop_missing: bool) -> dict[str, Column]:
    read = side.read()
    return _with_ids(read, side.id) if drop_missing else read


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


def _ids(
    event: Column, read: Mapping[str, Column], side: AttributeTable | None, kind: IdType | None
) -> tuple[list[pa.ChunkedArray], dict[str, Any]]:
    """Return the ids of the interactions and of the side's table, in one type, and about them."""
    if side is None:
        ids = ids_of([event], kind)[0]
        return [ids, pa.chunked_array([ids.chunk(0).dictionary])], told_ids(ids)
    own = read[side.id]
    ids, own_ids = ids_of([event, own], kind)
    check_unique(own.of(own_ids))
    joined = check_joined(event.of(ids), own.of(own_ids))
    return [ids, own_ids.cast(own_ids.type.value_type)], told_ids(ids) | {"in_table": joined}


def at_least(tables: Tables, min_weight: float | None) -> Tables:
    """Return the tables with only the interactions of at least this weight; None keeps all.

    Weights are compared in the type in which they were read, and are float32 afterwards.

    Raises:
        ValueError: none is left.
    """
    weight = tables.interactions["weight"]
    rows, kept = len(weight), tables.interactions
    if min_weight is not None:
        enough = pc.greater_equal(weight, pa.scalar(min_weight).cast(weight.type))
        if "role" in kept.column_names:
            # What hides an item has a negative weight, which is no small one.
            enough = pc.or_(enough, pc.less(kept["role"], 0))
        kept = kept.filter(enough)
    if not len(kept):
        raise ValueError(
            f"no interaction has a weight of at least {min_weight:g}: the {rows:,} weights "
            f"go up to {pc.max(weight).as_py():g}; lower min_weight"
        )
    place = kept.column_names.index("weight")
    single = kept["weight"].cast(pa.float32(), safe=False)
    reading = dict(tables.reading)
    if reading:
        reading["dropped"] = reading["dropped"] | {"below min_weight": rows - len(kept)}
    kept = kept.set_column(place, "weight", single)
    return replace(tables, interactions=kept, reading=reading)

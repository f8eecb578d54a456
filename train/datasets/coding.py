"""Columns of ids as they are read: the distinct values, and for each row the place among them.

Of a row four bytes are then in memory, however long its id is, and what is asked of ids is asked of
the distinct ones alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.blocks import BLOCK


@dataclass(frozen=True)
class Read:
    """Columns of one file.

    Attributes:
        table: the columns; of coded ones the places, int32, null for null.
        values: distinct values of the coded ones, in the order of their first rows.
    """

    table: pa.Table
    values: Mapping[str, pa.Array]


def read_blocks(schema: pa.Schema, batches: Iterable[pa.RecordBatch], ids: Collection[str]) -> Read:
    """Return the columns that batches have, those of `ids` coded and the others as they are.

    Args:
        schema: of the batches.
        batches: rows, one after another.
        ids: columns to code, where their type allows it.
    """
    coded = [name for name in ids if name in schema.names and _can_be(schema.field(name).type)]
    values = {name: pa.array([], _plain(schema.field(name).type)) for name in coded}
    # Without a row there are columns all the same.
    tables = [_with_places(schema.empty_table(), values)]
    for block in _blocks(batches):
        tables.append(_with_places(block, values))
    return Read(pa.concat_tables(tables), values)


def below(parts: Sequence[Read]) -> pa.Table:
    """Return the rows of several files one below the other, coded columns of dictionary type.

    Raises:
        ArrowInvalid, ArrowTypeError: the types of a column have none in common.
    """
    values: dict[str, pa.Array] = {}
    tables = []
    for part in parts:
        table = part.table
        for name, own in part.values.items():
            place = table.column_names.index(name)
            kind = _common(values[name].type, own.type) if name in values else own.type
            known = values[name].cast(kind) if name in values else pa.array([], kind)
            values[name], at = _grown(known, own.cast(kind))
            table = table.set_column(place, name, pc.take(at, table[name]))
        tables.append(table)
    odd = next((n for n in values if any(n not in part.values for part in parts)), None)
    if odd:
        raise pa.ArrowTypeError(f"column {odd!r} is a list or the like in some of them")
    table = pa.concat_tables(tables, promote_options="permissive")
    for name, of in values.items():
        chunks = [pa.DictionaryArray.from_arrays(chunk, of) for chunk in table[name].chunks]
        column = pa.chunked_array(chunks, pa.dictionary(pa.int32(), of.type))
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _can_be(kind: pa.DataType) -> bool:
    """Whether Arrow finds the distinct values of a type, and looks them up."""
    tests = ("is_integer", "is_decimal", "is_float32", "is_float64", "is_string", "is_large_string")
    return any(getattr(pa.types, test)(_plain(kind)) for test in tests)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _with_places(block: pa.Table, values: dict[str, pa.Array]) -> pa.Table:
    """Return a block with places instead of the coded columns, whose `values` grow."""
    for name, known in values.items():
        found = block[name].cast(known.type).combine_chunks().dictionary_encode()
        values[name], at = _grown(known, found.dictionary)
        places = at.take(found.indices)
        block = block.set_column(block.column_names.index(name), name, places)
    return block


def _grown(known: pa.Array, own: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return known values with those of `own` that are new, and the places of `own`, int32."""
    place = pc.fill_null(pc.index_in(own, value_set=known), -1).to_numpy()
    new = place < 0
    at = np.where(new, len(known) - 1 + np.cumsum(new), place).astype(np.int32)
    return pa.concat_arrays([known, own.filter(pa.array(new))]), pa.array(at)


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    schemas = [pa.schema({"ids": kind}) for kind in (first, second)]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= BLOCK:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)

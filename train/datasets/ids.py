"""Ids as they are written: integers or strings, the same in every table that names them."""

import logging
from collections.abc import Sequence
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import (
    Column,
    every,
    fail,
    integers,
    is_missing,
    mask,
    matches,
    wrong_type,
)

logger = logging.getLogger(__name__)
IdType = Literal["integer", "string"]
# Integers as they are written the plain way.
PLAIN_INTEGER = r"^(0|-?[1-9][0-9]*)$"
_WHOLE = r"^(0|-?[1-9][0-9]*)\.0+$"
# Whole numbers beyond it are not told apart as floats.
_EXACT = 2**53
# Above this share of integers, what is none is taken for a mistake.
_MOSTLY = 0.5


def ids_of(columns: Sequence[Column], kind: IdType | None = None) -> list[pa.ChunkedArray]:
    """Return the ids of one kind in every table that names them: all int64, or all strings.

    Strings of Parquet stay strings. Text of CSV becomes int64 where every value is an integer
    written the plain way: `7` is, `007` is not; `7.0` is 7 where all are so, as pandas writes them.

    Args:
        columns: ids of users, or of items, a column a table.
        kind: what they are; None for what they look like.

    Raises:
        ValueError: an id is missing or neither integer nor string, the tables differ, or some are
            no integers among many that are.
    """
    columns = [_present(column) for column in columns]
    whole = [_as_integers(column) for column in columns]
    kinds = [_kind(column, of) for column, of in zip(columns, whole, strict=True)]
    chosen = kind or _common(columns, kinds)
    if chosen == "integer" and None in whole:
        _refuse(columns[whole.index(None)])
    if chosen == "string":
        return [_as_strings(column) for column in columns]
    return [of for of in whole if of is not None]


def missing_ids(column: Column) -> Array:
    """Return where ids are missing, bool `[n]`: null, blank, or a word that stands for missing."""
    column = column.plain()
    if column.is_text:
        return mask(is_missing(column.values))
    return mask(column.values.is_null(nan_is_null=True))


def _present(column: Column) -> Column:
    column = column.plain()
    kind = column.values.type
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if not (column.is_text or any(test(kind) for test in tests)):
        wrong_type(column, "ids, integers or strings")
    missing = missing_ids(column)
    if missing.any():
        advice = 'Fill these rows in, or set data.missing_ids = "drop" to leave them out'
        fail(column, missing, "an id in every row", advice)
    return column


def _as_integers(column: Column) -> pa.ChunkedArray | None:
    """Return ids as int64, or None where one is no integer."""
    if column.is_text:
        values = column.values
        plain, point = mask(matches(values, PLAIN_INTEGER)), mask(matches(values, _WHOLE))
        if not (plain | point).all():
            return None
        if point.any():
            _tell_of_points(column, int(point.sum()))
            values = pc.replace_substring_regex(values, r"\.0+$", "")
        return integers(values)
    if pa.types.is_integer(column.values.type):
        return _in_range(column)
    return _whole_numbers(column)


def _in_range(column: Column) -> pa.ChunkedArray:
    try:
        return column.values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _whole_numbers(column: Column) -> pa.ChunkedArray:
    floats = column.values.cast(pa.float64(), safe=False)
    good = pc.and_(pc.equal(pc.floor(floats), floats), pc.less(pc.abs(floats), _EXACT))
    if not every(good):
        fail(column, pc.invert(good), "ids, integers or strings", "Write whole numbers")
    _tell_of_points(column, len(floats))
    return floats.cast(pa.int64())


def _tell_of_points(column: Column, count: int) -> None:
    first = column.values[0].as_py()
    logger.info("%s: %s ids such as %s are read as integers", column.where, f"{count:,}", first)


def _kind(column: Column, whole: pa.ChunkedArray | None) -> IdType:
    if not column.is_text:
        return "integer"
    return "integer" if column.written and whole is not None else "string"


def _common(columns: Sequence[Column], kinds: Sequence[IdType]) -> IdType:
    """Return the kind that all tables can have; what has types decides for what has none."""
    typed = {kind for column, kind in zip(columns, kinds, strict=True) if not column.written}
    if len(typed) > 1:
        places = " and ".join(f"{c.where}, {k}s" for c, k in zip(columns, kinds, strict=True))
        raise ValueError(
            f"expected ids of one type in both tables; they are in {places}. Write them alike, or "
            'set data.id_type = "integer" or "string"'
        )
    if typed:
        return typed.pop()
    for column, kind in zip(columns, kinds, strict=True):
        if kind == "string":
            _check_strings(column)
    return "string" if "string" in kinds else "integer"


def _check_strings(column: Column) -> None:
    """Raise ValueError where most of the ids are integers, so that the rest may be mistakes."""
    good = mask(matches(column.values, PLAIN_INTEGER))
    if good.all() or good.mean() <= _MOSTLY:
        return
    advice = 'Correct these rows; if ids are no integers, set data.id_type = "string"'
    fail(column, ~good, f"integers, as {good.mean():.1%} of the ids are", advice)


def _refuse(column: Column) -> NoReturn:
    """Raise ValueError about ids that are no 64-bit integers."""
    texts = column.values.cast(pa.string())
    bad = ~mask(matches(texts, PLAIN_INTEGER))
    if not bad.any():
        # As floats, 2**63 is the first number beyond; one of the numbers before may round to it.
        bad = mask(pc.greater_equal(pc.abs(texts.cast(pa.float64())), 2.0**63))
    advice = 'Write the ids the same way in both tables, or set data.id_type = "string"'
    fail(column, bad, f"integers of at most {2**63 - 1}", advice)


def _as_strings(column: Column) -> pa.ChunkedArray:
    if column.is_text:
        return column.values
    if pa.types.is_integer(column.values.type):
        return column.values.cast(pa.string())
    return _whole_numbers(column).cast(pa.string())


def check_unique(column: Column) -> None:
    """Raise ValueError where an id is there more than once."""
    codes = column.values.combine_chunks().dictionary_encode()
    if len(codes.dictionary) == len(column.values):
        return
    index = codes.indices.to_numpy()
    repeated = np.bincount(index)[index] > 1
    fail(column, repeated, "every id once", "Keep one row an id")


def check_joined(event: Column, own: Column) -> tuple[int, int, int]:
    """Return how many ids of the interactions a table has, of how many, and how many it has.

    Args:
        event: ids of the interactions, in the type of both.
        own: ids of the table.

    Raises:
        ValueError: it has none of them.
    """
    asked = pc.unique(event.values)
    there = pc.is_in(asked, value_set=own.values.combine_chunks())
    found = int(pc.sum(there).as_py() or 0)
    if found < len(asked) / 2:
        lacking = asked.filter(pc.invert(there))
        examples = ", ".join(repr(v) for v in lacking.slice(0, 3).to_pylist())
        others = ", ".join(repr(v) for v in own.values.slice(0, 3).to_pylist())
        message = (
            f"{own.where}: {found:,} of {len(asked):,} ids of the interactions are there; not "
            f"there are {examples}, and the table begins with {others}{_hint(lacking, own)}"
        )
        if not found:
            raise ValueError(f"{message}. Write the ids the same way in both")
        logger.warning("%s", message)
    return found, len(asked), len(own.values)


def _hint(lacking: pa.Array, own: Column) -> str:
    """Return what the ids of two tables differ by, where most are equal but for that."""
    if not pa.types.is_string(lacking.type):
        return ""
    alike = {
        "spaces around them": pc.utf8_trim_whitespace,
        "the case of letters": pc.utf8_lower,
        "zeros before them": lambda ids: pc.utf8_ltrim(ids, "0"),
        "their Unicode form (NFC or NFD)": lambda ids: pc.utf8_normalize(ids, "NFC"),
    }
    values = own.values.combine_chunks()
    for what, change in alike.items():
        equal = pc.is_in(change(lacking), value_set=change(values))
        if pc.sum(equal).as_py() > len(lacking) / 2:
            return f"; most differ by {what} alone"
    return ""

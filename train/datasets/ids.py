"""Ids as they are written: integers or strings, the same in every table that names them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import (
    Column,
    coded,
    every,
    fail,
    is_missing,
    mask,
    matches,
    of_codes,
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


@dataclass(frozen=True)
class _Ids:
    """A column of ids by its distinct values.

    Attributes:
        column: for errors.
        values: distinct, `[m]`.
        codes: of each row's, int32 `[n]`, -1 for null.
    """

    column: Column
    values: pa.Array
    codes: Array

    @classmethod
    def of(cls, column: Column) -> "_Ids":
        values, codes = coded(column)
        return cls(column.of(of_codes(values, codes)), values, codes)

    @property
    def is_text(self) -> bool:
        return bool(pa.types.is_string(self.values.type))

    def rows(self, of_values: Any, of_null: bool = False) -> Array:
        """Return a mask of the rows, bool `[n]`, by one of the values, `[m]`."""
        return np.append(mask(of_values), of_null)[self.codes]

    def changed(self, values: pa.Array) -> pa.ChunkedArray:
        """Return the rows with other values, `[m]`, of which some may be equal."""
        found = values.dictionary_encode()
        return of_codes(found.dictionary, found.indices.to_numpy()[self.codes])


def ids_of(columns: Sequence[Column], kind: IdType | None = None) -> list[pa.ChunkedArray]:
    """Return the ids of one kind in every table that names them: all int64, or all strings.

    Strings of Parquet stay strings. Text of CSV becomes int64 where every value is an integer
    written the plain way: `7` is, `007` is not; `7.0` is 7 where all are so, as pandas writes them.

    Args:
        columns: ids of users, or of items, a column a table.
        kind: what they are; None for what they look like.

    Returns:
        of each table, of dictionary type: one chunk, and no value that does not occur.

    Raises:
        ValueError: an id is missing or neither integer nor string, the tables differ, or some are
            no integers among many that are.
    """
    given = [_present(column) for column in columns]
    whole = [_as_integers(ids) for ids in given]
    kinds = [_kind(ids, of) for ids, of in zip(given, whole, strict=True)]
    chosen = kind or _common(given, kinds)
    if chosen == "integer" and None in whole:
        _refuse(given[whole.index(None)])
    if chosen == "string":
        return [ids.changed(_as_strings(ids)) for ids in given]
    return [ids.changed(of) for ids, of in zip(given, whole, strict=True) if of is not None]


def missing_ids(column: Column) -> Array:
    """Return where ids are missing, bool `[n]`: null, blank, or a word that stands for missing."""
    kind = column.plain_type
    if not _may_be_ids(kind):
        return mask(column.values.is_null())
    return _missing(_Ids.of(column))


def _missing(ids: _Ids) -> Array:
    if ids.is_text:
        return ids.rows(is_missing(ids.values), of_null=True)
    return ids.rows(ids.values.is_null(nan_is_null=True), of_null=True)


def _may_be_ids(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _present(column: Column) -> _Ids:
    if not _may_be_ids(column.plain_type):
        wrong_type(column.plain(), "ids, integers or strings")
    ids = _Ids.of(column)
    missing = _missing(ids)
    if missing.any():
        advice = 'Fill these rows in, or set data.missing_ids = "drop" to leave them out'
        fail(ids.column, missing, "an id in every row", advice)
    return ids


def _as_integers(ids: _Ids) -> pa.Array | None:
    """Return distinct ids as int64, or None where one is no integer."""
    values = ids.values
    if ids.is_text:
        plain, point = mask(matches(values, PLAIN_INTEGER)), mask(matches(values, _WHOLE))
        if not (plain | point).all():
            return None
        if point.any():
            _tell_of_points(ids, int(ids.rows(point).sum()))
            values = pc.replace_substring_regex(values, r"\.0+$", "")
        return _in_range(values)
    return _in_range(values) if pa.types.is_integer(values.type) else _whole_numbers(ids)


def _in_range(values: pa.Array) -> pa.Array | None:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _whole_numbers(ids: _Ids) -> pa.Array:
    floats = ids.values.cast(pa.float64(), safe=False)
    good = pc.and_(pc.equal(pc.floor(floats), floats), pc.less(pc.abs(floats), _EXACT))
    if not every(good):
        bad = ids.rows(pc.invert(good))
        fail(ids.column, bad, "ids, integers or strings", "Write whole numbers")
    _tell_of_points(ids, len(ids.codes))
    return floats.cast(pa.int64())


def _tell_of_points(ids: _Ids, count: int) -> None:
    first = ids.column.values[0].as_py()
    where = ids.column.where
    logger.info("%s: %s ids such as %s are read as integers", where, f"{count:,}", first)


def _kind(ids: _Ids, whole: pa.Array | None) -> IdType:
    if not ids.is_text:
        return "integer"
    return "integer" if ids.column.written and whole is not None else "string"


def _common(given: Sequence[_Ids], kinds: Sequence[IdType]) -> IdType:
    """Return the kind that all tables can have; what has types decides for what has none."""
    columns = [ids.column for ids in given]
    typed = {kind for column, kind in zip(columns, kinds, strict=True) if not column.written}
    if len(typed) > 1:
        places = " and ".join(f"{c.where}, {k}s" for c, k in zip(columns, kinds, strict=True))
        raise ValueError(
            f"expected ids of one type in both tables; they are in {places}. Write them alike, or "
            'set data.id_type = "integer" or "string"'
        )
    if typed:
        return typed.pop()
    for ids, kind in zip(given, kinds, strict=True):
        if kind == "string":
            _check_strings(ids)
    return "string" if "string" in kinds else "integer"


def _check_strings(ids: _Ids) -> None:
    """Raise ValueError where most of the ids are integers, so that the rest may be mistakes."""
    good = ids.rows(matches(ids.values, PLAIN_INTEGER))
    if good.all() or good.mean() <= _MOSTLY:
        return
    advice = 'Correct these rows; if ids are no integers, set data.id_type = "string"'
    fail(ids.column, ~good, f"integers, as {good.mean():.1%} of the ids are", advice)


def _refuse(ids: _Ids) -> NoReturn:
    """Raise ValueError about ids that are no 64-bit integers."""
    texts = ids.values.cast(pa.string())
    bad = ~mask(matches(texts, PLAIN_INTEGER))
    if not bad.any():
        # As floats, 2**63 is the first number beyond; one of the numbers before may round to it.
        bad = mask(pc.greater_equal(pc.abs(texts.cast(pa.float64())), 2.0**63))
    advice = 'Write the ids the same way in both tables, or set data.id_type = "string"'
    fail(ids.column, ids.rows(bad), f"integers of at most {2**63 - 1}", advice)


def _as_strings(ids: _Ids) -> pa.Array:
    if ids.is_text:
        return ids.values
    if pa.types.is_integer(ids.values.type):
        return ids.values.cast(pa.string())
    return _whole_numbers(ids).cast(pa.string())


def check_unique(column: Column) -> None:
    """Raise ValueError where an id is there more than once."""
    values, codes = coded(column)
    if len(values) == len(codes):
        return
    repeated = np.bincount(codes)[codes] > 1
    fail(column, repeated, "every id once", "Keep one row an id")


def check_joined(event: Column, own: Column) -> tuple[int, int, int]:
    """Return how many ids of the interactions a table has, of how many, and how many it has.

    Args:
        event: ids of the interactions, in the type of both.
        own: ids of the table.

    Raises:
        ValueError: it has none of them.
    """
    asked, there = coded(event)[0], coded(own)[0]
    lacking = asked.filter(pc.invert(pc.is_in(asked, value_set=there)))
    found = len(asked) - len(lacking)
    if found < len(asked) / 2:
        examples = ", ".join(repr(v) for v in lacking.slice(0, 3).to_pylist())
        others = ", ".join(repr(v) for v in own.values.slice(0, 3).to_pylist())
        message = (
            f"{own.where}: {found:,} of {len(asked):,} ids of the interactions are there; not "
            f"there are {examples}, and the table begins with {others}{_hint(lacking, there)}"
        )
        if not found:
            raise ValueError(f"{message}. Write the ids the same way in both")
        logger.warning("%s", message)
    return found, len(asked), len(own.values)


def _hint(lacking: pa.Array, values: pa.Array) -> str:
    """Return what the ids of two tables differ by, where most are equal but for that."""
    if not pa.types.is_string(lacking.type):
        return ""
    alike = {
        "spaces around them": pc.utf8_trim_whitespace,
        "the case of letters": pc.utf8_lower,
        "zeros before them": lambda ids: pc.utf8_ltrim(ids, "0"),
        "their Unicode form (NFC or NFD)": lambda ids: pc.utf8_normalize(ids, "NFC"),
    }
    for what, change in alike.items():
        equal = pc.is_in(change(lacking), value_set=change(values))
        if pc.sum(equal).as_py() > len(lacking) / 2:
            return f"; most differ by {what} alone"
    return ""

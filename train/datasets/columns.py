"""From the columns of a file to canonical columns; every error names file, column, rows and values.

A value is missing when it is null, NaN or, in a text column, empty. Text, which is all that a CSV
file holds, and the typed columns of Parquet go through the same functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NO_NUMBER = r"^(?i:nan|na|n/a|null|none)$"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


@dataclass(frozen=True)
class Column:
    """One column as it was read, and its place for error messages.

    Attributes:
        source: the file, folder or URI.
        name: the column's name in it.
        values: `[n]`, of any type.
    """

    source: str
    name: str
    values: pa.ChunkedArray

    @property
    def where(self) -> str:
        """The column in words: file, name and row count."""
        return f"{self.source}: column {self.name!r} ({len(self.values):,} rows)"

    def plain(self) -> "Column":
        """Return the same column without dictionary encoding, views or 64-bit string offsets."""
        kind = self.values.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        return Column(self.source, self.name, self.values.cast(kind))

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return bool(pa.types.is_string(self.values.type))


def fail(column: Column, bad: Any, expected: str, advice: str) -> NoReturn:
    """Raise ValueError about the rows of `column` where the mask `bad` `[n]` is set."""
    rows = np.flatnonzero(mask(bad))
    values = column.values.take(pa.array(rows[:3])).to_pylist()
    first = ", ".join(f"{_shown(v)} (row {r + 1:,})" for v, r in zip(values, rows[:3], strict=True))
    verb = "is" if len(rows) == 1 else "are"
    raise ValueError(
        f"{column.where}: expected {expected}; {len(rows):,} {verb} not: {first}. {advice}"
    )


def wrong_type(column: Column, expected: str) -> NoReturn:
    """Raise ValueError because a column is of another type."""
    first = ", ".join(_shown(value) for value in column.values.slice(0, 3).to_pylist())
    raise ValueError(
        f"{column.where}: expected {expected}; it holds {column.values.type}: {first}. "
        "Declare another kind for it, or convert it"
    )


def _shown(value: Any) -> str:
    text = "an empty value" if value is None or value == "" else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def mask(values: Any) -> Array:
    """Return booleans of numpy or Arrow as numpy, bool `[n]`, null as False."""
    if isinstance(values, pa.Array):
        values = pa.chunked_array([values])
    if isinstance(values, pa.ChunkedArray):
        values = pc.fill_null(values, False).to_numpy()
    return np.asarray(values, dtype=bool)


def matches(values: Any, pattern: str) -> Any:
    """Return for each string whether it matches a regular expression, null for null."""
    return pc.match_substring_regex(values, pattern)


def empty_to_null(values: Any) -> Any:
    """Return strings without the space around them, null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def numbers(column: Column) -> pa.ChunkedArray:
    """Return finite float64 values, null where missing.

    Raises:
        ValueError: a value is no finite number, or the column's type is none.
    """
    column = column.plain()
    kind = column.values.type
    if not (column.is_text or _is_number(kind)):
        wrong_type(column, "numbers")
    try:
        values = column.values.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        values = _parsed_numbers(column)
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if not pc.all(pc.is_finite(values), min_count=0).as_py():
        bad = pc.invert(pc.is_finite(values))
        fail(column, bad, "finite numbers", "Correct these rows, or leave them empty")
    return values


def _is_number(kind: pa.DataType) -> bool:
    tests = ("is_integer", "is_floating", "is_decimal", "is_boolean", "is_null")
    return any(getattr(pa.types, test)(kind) for test in tests)


def _parsed_numbers(column: Column) -> pa.ChunkedArray:
    values = empty_to_null(column.values)
    values = pc.if_else(matches(values, _NO_NUMBER), pa.scalar(None, pa.string()), values)
    good = matches(values, NUMBER)
    if not pc.all(good, min_count=0).as_py():
        fail(column, pc.invert(good), "numbers", "Correct these rows, or declare another kind")
    return values.cast(pa.float64())


def integers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return strings as int64, or None where one of them is not a 64-bit integer."""
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def number(column: Column) -> pa.ChunkedArray:
    """Return a number attribute, float32, null where missing."""
    return numbers(column).cast(pa.float32(), safe=False)


def category(column: Column) -> pa.ChunkedArray:
    """Return a category attribute, strings, null where missing; 3.0 and 3 are both `"3"`."""
    column = column.plain()
    if column.is_text:
        return empty_to_null(column.values)
    kind = column.values.type
    if pa.types.is_floating(kind):
        whole = numbers(column)
        same = pc.all(pc.equal(pc.floor(whole), whole), min_count=0).as_py()
        return (whole.cast(pa.int64()) if same else whole).cast(pa.string())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        wrong_type(column, "one category a row")
    return column.values.cast(pa.string())


def categories(column: Column, separator: str = "|") -> pa.ChunkedArray:
    """Return a categories attribute, lists of strings, from lists or from text with a separator."""
    column = column.plain()
    kind = column.values.type
    if column.is_text:
        lists = pc.split_pattern(pc.fill_null(column.values, ""), separator)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lists = column.values
    else:
        wrong_type(column, f"lists, or text with the separator {separator!r}")
    return _cleaned_lists(column, lists.combine_chunks())


def _cleaned_lists(column: Column, lists: pa.Array) -> pa.ChunkedArray:
    parents = pc.list_parent_indices(lists).to_numpy()
    values = category(Column(column.source, column.name, pa.chunked_array([lists.flatten()])))
    kept = mask(pc.is_valid(values))
    lengths = np.bincount(parents[kept], minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = values.filter(pa.array(kept)).combine_chunks()
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), flat)])


def flag(column: Column) -> pa.ChunkedArray:
    """Return a flag attribute, bool, null where missing, from bools, 0 and 1, or yes and no."""
    column = column.plain()
    if pa.types.is_boolean(column.values.type):
        return column.values
    words = pc.utf8_lower(category(column))
    true = pc.is_in(words, value_set=pa.array(_TRUE))
    known = pc.or_(true, pc.is_in(words, value_set=pa.array(_FALSE)))
    bad = pc.and_(pc.is_valid(words), pc.invert(known))
    if pc.any(bad, min_count=0).as_py():
        fail(column, bad, "flags: true/false, yes/no or 1/0", "Correct these rows")
    return pc.if_else(pc.is_valid(words), true, pa.scalar(None, pa.bool_()))


def text(column: Column) -> pa.ChunkedArray:
    """Return a text attribute, strings, null where missing."""
    column = column.plain()
    if not (column.is_text or pa.types.is_null(column.values.type)):
        wrong_type(column, "text")
    return empty_to_null(column.values.cast(pa.string()))


def embedding(columns: Sequence[Column]) -> pa.ChunkedArray:
    """Return an embedding, lists of `d` float32, from one list column or from `d` number columns.

    A row without any value is null.

    Raises:
        ValueError: the rows differ in width, or only a part of a row is there.
    """
    first = columns[0].plain()
    kind = first.values.type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return _from_columns([column.plain() for column in columns])
    lists = first.values.combine_chunks()
    width = pc.max(pc.list_value_length(lists)).as_py()
    short = pc.not_equal(pc.list_value_length(lists), width or 0)
    if not width or pc.any(short, min_count=0).as_py():
        fail(first, short, f"{width or 'some'} numbers in every row", "Give all the same width")
    flat = lists.drop_null().flatten()
    values = Column(first.source, first.name, pa.chunked_array([flat]))
    filled = np.zeros((len(lists), width), np.float32)
    present = mask(pc.is_valid(lists))
    filled[present] = _whole(values, numbers(values)).reshape(-1, width)
    return _fixed(filled, present)


def _whole(column: Column, values: pa.ChunkedArray) -> Array:
    if values.null_count:
        fail(column, pc.is_null(values), "a number in every place", "Fill these in")
    return np.asarray(values.to_numpy(), dtype=np.float32)


def _from_columns(columns: Sequence[Column]) -> pa.ChunkedArray:
    matrix = np.column_stack([numbers(column).to_numpy() for column in columns])
    missing = np.isnan(matrix)
    present = ~missing.all(axis=1)
    partly = missing & present[:, None]
    if partly.any():
        at = int(np.flatnonzero(partly.any(axis=0))[0])
        fail(columns[at], partly[:, at], "a number in every place", "Fill in, or empty the row")
    return _fixed(np.nan_to_num(matrix).astype(np.float32), present)


def _fixed(matrix: Array, present: Array) -> pa.ChunkedArray:
    values = pa.array(matrix.ravel(), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(values, matrix.shape[1], mask=pa.array(~present))
    return pa.chunked_array([lists])


CONVERT: dict[str, Callable[[Column], pa.ChunkedArray]] = {
    "category": category,
    "number": number,
    "flag": flag,
    "text": text,
}

"""From the columns of a file to attributes of one type.

A value is missing when it is null, NaN, blank or one of the words of `columns.MISSING`. Text, which
is all that a CSV file holds, and the typed columns of Parquet go through the same functions.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import (
    NUMBER,
    Column,
    empty_to_null,
    every,
    fail,
    is_missing,
    mask,
    matches,
    missing_to_null,
    some,
    wrong_type,
)

_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
# The largest number of a float32.
LARGEST = float(np.finfo(np.float32).max)
_WHOLE = 2**53


def numbers(column: Column) -> pa.ChunkedArray:
    """Return finite float64 values, null where missing.

    Raises:
        ValueError: a value is no finite number, or the column's type is none.
    """
    column = column.plain()
    kind = column.values.type
    if not (column.is_text or _is_number(kind)):
        wrong_type(column, "numbers")
    values = _parsed_numbers(column) if column.is_text else _as_floats(column)
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if not every(pc.is_finite(values)):
        bad = pc.invert(pc.is_finite(values))
        fail(column, bad, "finite numbers", "Correct these rows, or leave them empty")
    return values


def _is_number(kind: pa.DataType) -> bool:
    tests = ("is_integer", "is_floating", "is_decimal", "is_boolean", "is_null")
    return any(getattr(pa.types, test)(kind) for test in tests)


def _as_floats(column: Column) -> pa.ChunkedArray:
    return column.values.cast(pa.float64(), safe=False)


def _parsed_numbers(column: Column) -> pa.ChunkedArray:
    if column.decimal == ".":
        try:
            return column.values.cast(pa.float64())
        except pa.ArrowInvalid:
            pass
    values = missing_to_null(column.values)
    good = matches(values, NUMBER.replace(r"\.", re.escape(column.decimal)))
    if not every(good):
        fail(column, pc.invert(good), "numbers", _advice(column, values))
    return pc.replace_substring(values, column.decimal, ".").cast(pa.float64())


def _advice(column: Column, values: pa.ChunkedArray) -> str:
    other = {".": ",", ",": "."}.get(column.decimal, ".")
    if every(matches(values, NUMBER.replace(r"\.", re.escape(other)))):
        return f'Is {other!r} before the decimals? Set data.csv.decimal = "{other}"'
    return "Correct these rows, or declare another kind"


def single(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return float64 values of a column as float32.

    Raises:
        ValueError: one is too large.
    """
    large = pc.greater(pc.abs(values), LARGEST)
    if some(large):
        expected = f"numbers of at most {LARGEST:.2g}, which a float32 can hold"
        fail(column, large, expected, "Correct these rows, or scale the column")
    return values.cast(pa.float32(), safe=False)


def number(column: Column) -> pa.ChunkedArray:
    """Return a number attribute, float32, null where missing."""
    return single(column, numbers(column))


def category(column: Column) -> pa.ChunkedArray:
    """Return a category attribute, strings, null where missing; 3.0 and 3 are both `"3"`."""
    column = column.plain()
    if column.is_text:
        return missing_to_null(column.values)
    kind = column.values.type
    if pa.types.is_floating(kind):
        floats = numbers(column)
        whole = pc.and_(pc.equal(pc.floor(floats), floats), pc.less(pc.abs(floats), _WHOLE))
        return (floats.cast(pa.int64()) if every(whole) else floats).cast(pa.string())
    if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind):
        wrong_type(column, "one category a row")
    return column.values.cast(pa.string())


def categories(column: Column, separator: str = "|") -> pa.ChunkedArray:
    """Return a categories attribute, lists of strings, from lists or from text with a separator."""
    column = column.plain()
    if column.is_text:
        texts = pc.if_else(is_missing(column.values), "", column.values)
        lists = pc.split_pattern(texts, separator)
    elif is_list(column.values.type):
        lists = as_lists(column.values)
    else:
        wrong_type(column, f"lists, or text with the separator {separator!r}")
    return _cleaned_lists(column, lists.combine_chunks())


def _cleaned_lists(column: Column, lists: pa.Array) -> pa.ChunkedArray:
    parents = pc.list_parent_indices(lists).to_numpy()
    flat = pa.chunked_array([pc.list_flatten(lists)])
    values = category(Column(column.source, column.name, flat))
    kept = mask(pc.is_valid(values))
    lengths = np.bincount(parents[kept], minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    words = values.filter(pa.array(kept)).combine_chunks()
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), words)])


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's types of lists."""
    tests = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    return any(getattr(pa.types, test)(kind) for test in tests)


def as_lists(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return lists of any type as lists with 32-bit offsets."""
    kind = values.type
    if pa.types.is_list(kind):
        return values
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        # Arrow 26 casts views to lists with offsets too few.
        chunks = [pa.array(chunk.to_pylist(), pa.list_(kind.value_type)) for chunk in values.chunks]
        return pa.chunked_array(chunks, pa.list_(kind.value_type))
    return values.cast(pa.list_(kind.value_type))


def flag(column: Column) -> pa.ChunkedArray:
    """Return a flag attribute, bool, null where missing, from bools, 0 and 1, or yes and no."""
    column = column.plain()
    if pa.types.is_boolean(column.values.type):
        return column.values
    words = pc.utf8_lower(category(column))
    true = pc.is_in(words, value_set=pa.array(_TRUE))
    known = pc.or_(true, pc.is_in(words, value_set=pa.array(_FALSE)))
    bad = pc.and_(pc.is_valid(words), pc.invert(known))
    if some(bad):
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
    if not is_list(first.values.type):
        return _from_columns([column.plain() for column in columns])
    lists = as_lists(first.values).combine_chunks()
    width = pc.max(pc.list_value_length(lists)).as_py()
    short = pc.not_equal(pc.list_value_length(lists), width or 0)
    if not width or some(short):
        fail(first, short, f"{width or 'some'} numbers in every row", "Give all the same width")
    values = Column(first.source, first.name, pa.chunked_array([lists.drop_null().flatten()]))
    filled = np.zeros((len(lists), width), np.float32)
    present = mask(pc.is_valid(lists))
    filled[present] = _whole(values, numbers(values)).reshape(-1, width)
    return _fixed(filled, present)


def _whole(column: Column, values: pa.ChunkedArray) -> Array:
    if values.null_count:
        fail(column, pc.is_null(values), "a number in every place", "Fill these in")
    return np.asarray(single(column, values).to_numpy())


def _from_columns(columns: Sequence[Column]) -> pa.ChunkedArray:
    read = [numbers(column) for column in columns]
    missing = np.column_stack([np.asarray(values.is_null().to_numpy()) for values in read])
    present = np.asarray(~missing.all(axis=1))
    partly = missing & present[:, None]
    if partly.any():
        at = int(np.flatnonzero(partly.any(axis=0))[0])
        fail(columns[at], partly[:, at], "a number in every place", "Fill in, or empty the row")
    singles = [single(column, of) for column, of in zip(columns, read, strict=True)]
    return _fixed(np.nan_to_num(np.column_stack([of.to_numpy() for of in singles])), present)


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

"""Columns of a file, and errors about them that name file, column, rows and values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.coded import coded as distinct
from train.core.ragged import Array

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
# What stands for a missing id, category or number, in any case of letters: what pandas, Spark,
# MySQL, JavaScript and spreadsheets write where there is none. Texts and titles are taken as told.
MISSING = ("nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "undefined", r"\n")
_LONGEST = max(map(len, MISSING))


@dataclass(frozen=True)
class Column:
    """One column as it was read, and its place for error messages.

    Attributes:
        source: the file, folder or URI.
        name: the column's name in it.
        values: `[n]`, of any type.
        written: it was text in a file without types (CSV, the name of a folder), so that what its
            values are is to be seen.
        decimal: what stands before decimals in text.
        parts: the files of a folder and their numbers of rows.
        rows: of the values in the source, `[n]`; None where there are no others.
    """

    source: str
    name: str
    values: pa.ChunkedArray
    written: bool = False
    decimal: str = "."
    parts: Sequence[tuple[str, int]] = ()
    rows: Array | None = None

    @property
    def where(self) -> str:
        """The column in words: file, name and row count."""
        return f"{self.source}: column {self.name!r} ({len(self.values):,} rows)"

    def of(self, values: pa.ChunkedArray) -> "Column":
        """Return the column with other values in the same places."""
        return replace(self, values=values)

    def plain(self) -> "Column":
        """Return the column without dictionary encoding or views, with 32-bit offsets.

        Raises:
            ValueError: bytes are no UTF-8.
        """
        return self if self.plain_type == self.values.type else self.of(self.as_plain(self.values))

    def as_plain(self, values: Any) -> Any:
        """Return some of its values in the type that `plain` gives them."""
        try:
            return values.cast(self.plain_type)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.where}: expected text in UTF-8: {error}") from error

    @property
    def plain_type(self) -> pa.DataType:
        """The type of its values without dictionary encoding or views."""
        return _plain_type(self.values.type)

    def kept(self, mask: Array) -> "Column":
        """Return the rows of a mask, bool `[n]`; errors still name their places in the source."""
        rows = np.arange(len(self.values)) if self.rows is None else self.rows
        return replace(self, values=self.values.filter(pa.array(mask)), rows=rows[mask])

    def place(self, index: int) -> str:
        """Return where a value stands: its row, and its file where there are several."""
        row = index if self.rows is None else int(self.rows[index])
        if len(self.parts) < 2:
            return f"row {row + 1:,}"
        ends = np.cumsum([count for _, count in self.parts])
        part = int(np.searchsorted(ends, row, side="right"))
        name, count = self.parts[part]
        return f"{name}, row {row - int(ends[part]) + count + 1:,}"

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return bool(pa.types.is_string(self.values.type))


def coded(column: Column) -> tuple[pa.Array, Array]:
    """Return the distinct values of a column, plain, and of each row the place among them.

    Returns:
        the values that occur, `[m]`; and the places, int32 `[n]`, -1 for null.

    Raises:
        ValueError: bytes are no UTF-8.
    """
    # A view has no distinct values, but what it is a view of has.
    given = column.values if pa.types.is_dictionary(column.values.type) else column.plain().values
    values, codes = distinct(given)
    return column.as_plain(values), codes


def of_codes(values: pa.Array, codes: Array) -> pa.ChunkedArray:
    """Return a column of dictionary type, one chunk, of what `coded` returns."""
    places = pa.array(codes, pa.int32(), mask=codes < 0 if (codes < 0).any() else None)
    kind = pa.dictionary(pa.int32(), values.type)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(places, values)], kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    texts = ("is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")
    if any(getattr(pa.types, test)(kind) for test in texts):
        return pa.string()
    return kind


def fail(column: Column, bad: Any, expected: str, advice: str) -> NoReturn:
    """Raise ValueError about the rows of `column` where the mask `bad` `[n]` is set."""
    rows = np.flatnonzero(mask(bad))
    values = column.values.take(pa.array(rows[:3])).to_pylist()
    pairs = zip(values, rows[:3].tolist(), strict=True)
    first = ", ".join(f"{shown(v)} ({column.place(r)})" for v, r in pairs)
    verb = "is" if len(rows) == 1 else "are"
    raise ValueError(
        f"{column.where}: expected {expected}; {len(rows):,} {verb} not: {first}. {advice}"
    )


def wrong_type(column: Column, expected: str) -> NoReturn:
    """Raise ValueError because a column is of another type."""
    first = ", ".join(shown(value) for value in column.values.slice(0, 3).to_pylist())
    raise ValueError(
        f"{column.where}: expected {expected}; it holds {column.values.type}: {first}. "
        "Declare another kind for it, or convert it"
    )


def shown(value: Any) -> str:
    """Return a value in words, shortened."""
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


def every(values: Any) -> bool:
    """Whether all booleans that are not null are true."""
    return bool(pc.all(values, min_count=0).as_py())


def some(values: Any) -> bool:
    """Whether a boolean is true."""
    return bool(pc.any(values, min_count=0).as_py())


def empty_to_null(values: Any) -> Any:
    """Return strings without the space around them, null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def is_missing(values: Any) -> Any:
    """Return for each string whether it is null, blank or one of the words of `MISSING`."""
    trimmed = pc.utf8_trim_whitespace(values)
    short = pc.less_equal(pc.utf8_length(trimmed), _LONGEST)
    words = pc.utf8_lower(pc.if_else(short, trimmed, "longer"))
    return pc.is_in(words, value_set=pa.array(["", *MISSING, None], pa.string()))


def missing_to_null(values: Any) -> Any:
    """Return strings without the space around them, null where they are missing."""
    nothing = pa.scalar(None, pa.string())
    return pc.if_else(is_missing(values), nothing, pc.utf8_trim_whitespace(values))


def integers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return strings as int64, or None where one of them is not a 64-bit integer."""
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None

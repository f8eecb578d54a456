"""Timestamps in every usual format, as whole numbers."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import NUMBER, Column, empty_to_null, fail, integers, matches, numbers

TimeUnit = Literal["s", "ms", "us", "ns"]
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_LOCAL = f"^{_DATE}({_CLOCK})?$"
_ZONED = f"^{_DATE}{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"
# A second in the year 5138; in milliseconds the same number is in 1973.
_LATEST_SECOND = 10**11


def timestamps(column: Column, unit: TimeUnit = "s") -> tuple[Array, int]:
    """Return the times of a column, int64 `[n]`, and how many of their units make a second.

    Numbers, in text or typed, count in `unit` since 1970 (or give any order). ISO dates and times,
    dates and datetimes are read as such; those without a zone are UTC.

    Raises:
        ValueError: a time is missing or unreadable, or looks like a finer unit than `unit`.
    """
    column = column.plain()
    kind = column.values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _from_dates(column)
    if column.is_text and not _mostly_numbers(column.values):
        return _from_dates(_parsed(column))
    return _from_numbers(column, unit)


def _mostly_numbers(values: pa.ChunkedArray) -> bool:
    counts = [pc.sum(matches(values, p), min_count=0).as_py() for p in (NUMBER, f"^{_DATE}")]
    return bool(counts[0] > counts[1])


def _check_present(column: Column, values: pa.ChunkedArray) -> None:
    if values.null_count:
        fail(column, pc.is_null(values), "a time in every row", "Fill these rows in, or drop them")


def _from_numbers(column: Column, unit: TimeUnit) -> tuple[Array, int]:
    values = numbers(column)
    _check_present(column, values)
    per_second = PER_SECOND[unit]
    _check_unit(column, values.to_numpy() / per_second, unit)
    # Whole numbers are not taken through float64, which is too coarse for nanoseconds.
    whole = integers(column.values) if column.is_text else column.values
    if whole is not None and pa.types.is_integer(whole.type):
        return np.asarray(whole.cast(pa.int64()).to_numpy()), per_second
    # Microseconds keep the order of times that were given with a fraction.
    per_value = 10**6 / per_second
    return np.floor(values.to_numpy() * per_value).astype(np.int64), 10**6


def _check_unit(column: Column, seconds: Array, unit: TimeUnit) -> None:
    late = np.abs(seconds) > _LATEST_SECOND
    if late.any():
        expected = f"times before the year 5000, as {unit} since 1970"
        fail(column, late, expected, "In a finer unit? Set timestamp_unit to ms, us or ns")


def _from_dates(column: Column) -> tuple[Array, int]:
    _check_present(column, column.values)
    kind = column.values.type
    unit: TimeUnit = kind.unit if pa.types.is_timestamp(kind) else "s"
    values = column.values if pa.types.is_timestamp(kind) else column.values.cast(pa.timestamp("s"))
    return np.asarray(values.cast(pa.int64()).to_numpy()), PER_SECOND[unit]


def _parsed(column: Column) -> Column:
    values = empty_to_null(column.values)
    zoned = matches(values, _ZONED)
    good = pc.fill_null(pc.or_(zoned, matches(values, _LOCAL)), False)
    if not pc.all(good, min_count=0).as_py():
        expected = "ISO dates or times (2024-01-31, 2024-01-31T23:59:59Z) in every row"
        fail(column, pc.invert(good), expected, "Correct these rows, or drop them")
    values = pc.replace_substring_regex(values, r"(\.[0-9]{6})[0-9]+", r"\1")
    # Arrow reads a column where all times have a zone, or none has.
    whole_days = matches(values, f"^{_DATE}$")
    utc = pc.binary_join_element_wise(values, pc.if_else(whole_days, "T00:00Z", "Z"), "")
    return _cast(column, pc.if_else(zoned, values, utc))


def _cast(column: Column, values: pa.ChunkedArray) -> Column:
    try:
        times = values.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{column.where}: expected dates and times that exist; {error}. Correct this row"
        ) from error
    return Column(column.source, column.name, times)

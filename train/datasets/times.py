"""Timestamps in every usual form, as whole numbers."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import (
    NUMBER,
    Column,
    fail,
    integers,
    is_missing,
    mask,
    matches,
    wrong_type,
)
from train.datasets.convert import numbers
from train.datasets.time_checks import (
    DAY,
    PER_SECOND,
    TimeUnit,
    check_numbers,
    check_span,
    likely,
)
from train.datasets.time_forms import by_format, by_usual_forms

DATES = "dates and times"


@dataclass(frozen=True)
class TimeForm:
    """How times are written.

    Attributes:
        unit: of numbers; None for seconds, if they then lie in what is likely.
        format: of text and of numbers that are digits of dates, as strptime has it.
    """

    unit: TimeUnit | None = None
    format: str | None = None


@dataclass(frozen=True)
class Times:
    """The times of a column.

    Attributes:
        ticks: int64 `[n]`.
        per_second: how many of their units make a second.
        read_as: how they were read, in words; empty where there were none.
    """

    ticks: Array
    per_second: int
    read_as: str


def timestamps(column: Column, form: TimeForm = TimeForm()) -> Times:
    """Return the times of a column.

    Numbers, in text or typed, count in the unit since 1970. Dates, datetimes, and text in a usual
    form are read as such; those without a zone are UTC.

    Raises:
        ValueError: a time is missing or unreadable; or all is read, but lies before 1990 or after
            tomorrow, and no unit says that it is meant.
    """
    column = column.plain()
    kind = column.values.type
    if form.format and not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        dates = by_format(_as_text(column), form.format)
        return _from_dates(column, dates, form, f"{DATES}, {form.format}")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _from_dates(column, column.values, form, DATES)
    whole = _integers(column)
    if whole is not None and _surely(whole, form.unit):
        return _from_integers(whole, form)
    if column.is_text and not _mostly_numbers(column.values):
        _check_present(column)
        dates, how = by_usual_forms(column)
        return _from_dates(column, dates, form, f"{DATES}, {how}")
    return _from_numbers(column, form)


def _integers(column: Column) -> pa.ChunkedArray | None:
    """Return integers, written or typed, none of them missing; None where they are not."""
    whole = integers(column.values) if column.is_text else column.values
    return (
        whole
        if whole is not None and pa.types.is_integer(whole.type) and not whole.null_count
        else None
    )


def _surely(whole: pa.ChunkedArray, unit: TimeUnit | None) -> bool:
    """Whether integers are likely times by the first and the last of them, days apart."""
    if unit in ("d", "order"):
        return unit == "order"
    ends = pc.min_max(whole).as_py()
    span = np.array([ends["min"] or 0, ends["max"] or 0]) / PER_SECOND[unit or "s"]
    return bool(likely(span).all())


def _from_integers(whole: pa.ChunkedArray, form: TimeForm) -> Times:
    unit = form.unit or "s"
    # Whole numbers are not taken through float64, which is too coarse for nanoseconds.
    ticks = np.asarray(whole.cast(pa.int64()).to_numpy())
    return Times(ticks, int(PER_SECOND[unit]), _read_as(unit))


def _read_as(unit: TimeUnit) -> str:
    return "an order" if unit == "order" else f"numbers, {unit} since 1970"


def _mostly_numbers(values: pa.ChunkedArray) -> bool:
    there = values.filter(pc.invert(is_missing(values)))
    return 2 * int(pc.sum(matches(there, NUMBER), min_count=0).as_py() or 0) > len(there)


def _as_text(column: Column) -> Column:
    kind = column.values.type
    if pa.types.is_floating(kind):
        column = column.of(numbers(column).cast(pa.int64()))
    elif not (column.is_text or pa.types.is_integer(kind)):
        wrong_type(column, "text or whole numbers, as data.timestamp_format is set")
    column = column.of(column.values.cast(pa.string()))
    _check_present(column)
    return column


def _check_present(column: Column) -> None:
    missing = mask(is_missing(column.values) if column.is_text else pc.is_null(column.values))
    if missing.any():
        fail(column, missing, "a time in every row", "Fill these rows in, or drop them")


def _from_numbers(column: Column, form: TimeForm) -> Times:
    values = numbers(column)
    if values.null_count:
        missing = pc.is_null(values)
        fail(column, missing, "a time in every row", "Fill these rows in, or drop them")
    check_numbers(column, values.to_numpy(), form.unit)
    unit = form.unit or "s"
    if unit == "d":
        days = values.to_numpy()
        return Times(np.floor(days * DAY).astype(np.int64), 1, _read_as(unit))
    whole = _integers(column)
    if whole is not None:
        return _from_integers(whole, form)
    # Microseconds keep the order of times that were given with a fraction.
    ticks = np.floor(values.to_numpy() * (10**6 / PER_SECOND[unit])).astype(np.int64)
    return Times(ticks, 10**6, _read_as(unit))


def _from_dates(column: Column, values: pa.ChunkedArray, form: TimeForm, read_as: str) -> Times:
    _check_present(column)
    kind = values.type
    unit: TimeUnit = kind.unit if pa.types.is_timestamp(kind) else "s"
    dates = values if pa.types.is_timestamp(kind) else values.cast(pa.timestamp("s"))
    ticks = np.asarray(dates.cast(pa.int64()).to_numpy())
    per_second = int(PER_SECOND[unit])
    if form.unit is None:
        check_span(column, ticks / per_second)
    return Times(ticks, per_second, read_as)

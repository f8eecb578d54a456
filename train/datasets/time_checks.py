"""Whether numbers are the times that they are taken for: they lie from 1990 to tomorrow."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from train.core.ragged import Array
from train.datasets.columns import Column, fail

TimeUnit = Literal["s", "ms", "us", "ns", "d", "order"]
DAY = 86400
PER_SECOND: Mapping[str, float] = {
    "s": 1,
    "ms": 10**3,
    "us": 10**6,
    "ns": 10**9,
    "d": 1 / DAY,
    "order": 1,
}
EARLIEST = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
# Digits of dates, and their formats.
_DIGITS = {
    "%Y%m%d": (19900101, 21001231, 10**4),
    "%Y%m%d%H%M": (199001010000, 210012312359, 10**8),
    "%Y%m%d%H%M%S": (19900101000000, 21001231235959, 10**10),
}
_EXCEL = datetime(1899, 12, 30, tzinfo=UTC).timestamp()


def in_words(seconds: float) -> str:
    """Return a time in UTC as people write it, or a number where no calendar has it."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(seconds))
    except OverflowError:
        return f"{seconds:g} s"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def likely(seconds: Array) -> Array:
    """Return which times lie from 1990 to tomorrow, bool `[n]`."""
    # Two days, for clocks of the other side of the date line.
    return np.asarray((seconds >= EARLIEST) & (seconds <= time.time() + 2 * DAY))


def check_span(column: Column, seconds: Array) -> None:
    """Raise ValueError where times that were written as dates are unlikely, `[n]`."""
    bad = ~likely(seconds)
    if bad.any():
        advice = (
            "Are these placeholders? Correct or drop these rows; if they are right, set "
            'data.timestamp_unit = "s"'
        )
        fail(column, bad, f"times from 1990 to tomorrow; {_span(seconds)}", advice)


def check_numbers(column: Column, values: Array, unit: TimeUnit | None) -> None:
    """Raise ValueError where numbers are no times in a unit.

    Args:
        column: for errors.
        values: float64 `[n]`.
        unit: what was said of them; None for seconds where that is likely. What was said is refused
            only where another unit is likely, for all or for what is out of the span.
    """
    if unit == "order":
        return
    seconds = values / PER_SECOND[unit or "s"]
    bad = ~likely(seconds)
    if not bad.any():
        return
    other = _other_unit(values[bad], unit or "s")
    mixed = bool(other) and not bad.all()
    if mixed:
        advice = f"These read as {other}: write all times in one unit"
    elif other:
        advice = f'Set data.timestamp_unit = "{other}"'
    elif unit is None:
        advice = _advice(values[bad])
    else:
        return
    expected = f"times from 1990 to tomorrow, as {unit or 's'} since 1970; {_span(seconds)}"
    fail(column, bad, expected, advice)


def _span(seconds: Array) -> str:
    return f"they are read as {in_words(seconds.min())} to {in_words(seconds.max())}"


def _other_unit(values: Array, unit: str) -> str | None:
    """Return the unit that makes all values likely times, if there is one."""
    others = (of for of in ("s", "ms", "us", "ns", "d") if of != unit)
    return next((of for of in others if likely(values / PER_SECOND[of]).all()), None)


def _advice(values: Array) -> str:
    for form, bounds in _DIGITS.items():
        if _are_digits(values, *bounds):
            return f'Digits of dates? Set data.timestamp_format = "{form}"'
    if ((values >= 1900) & (values <= 2100) & (values == np.floor(values))).all():
        return 'Years? Set data.timestamp_format = "%Y"'
    if likely(values * DAY + _EXCEL).all():
        return (
            "Days of a spreadsheet? Save the column as dates there, or subtract 25569 and set "
            'data.timestamp_unit = "d"'
        )
    return (
        'Set data.timestamp_unit: to "order" where numbers give an order alone, to "s", "ms", '
        '"us", "ns" or "d" (days) where they are right'
    )


def _are_digits(values: Array, least: int, most: int, after_year: int) -> bool:
    rest = (values % after_year) / (after_year / 100)
    month = np.floor(rest)
    whole = values == np.floor(values)
    return bool((whole & (values >= least) & (values <= most) & (month >= 1) & (month < 13)).all())

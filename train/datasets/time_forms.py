"""Dates and times in text: the usual forms by themselves, others by a format."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import Column, fail, mask, matches

_CLOCK = (
    r"(?:[T ,]+(?P<clock>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)"
    r"(?: ?(?P<half>[AaPp][Mm]))?"
    r" ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?(?: \((?:UTC|GMT)\))?)?"
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAY = r"(?:[A-Za-z]{3,9},? +)?"
_YEAR_FIRST = r"(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})"
_NAMED = r"(?P<day>[0-9]{1,2})[ -](?P<month>[A-Za-z]{3})[a-z]*\.?[ -](?P<year>[0-9]{4})"
_DIGITS = r"(?P<first>[0-9]{1,2})[-/.](?P<second>[0-9]{1,2})[-/.](?P<year>[0-9]{4})"
# What a day of 1 to 3 may have been before a calendar carried it over: 30 February.
_CARRIED = 3
EXPECTED = (
    "ISO dates or times (2024-01-31, 2024-01-31T23:59:59Z), or another usual form, in every row"
)


def by_usual_forms(column: Column) -> tuple[pa.ChunkedArray, str]:
    """Return the times of text in one or several usual forms, timestamps in UTC, and which ones.

    ISO 8601 and its kin (`2020-12-25 08:34:13 UTC`, `2020/12/25`), RFC 2822 (`Fri, 25 Dec 2020
    08:34:13 +0000`), and digits with the year last (`27-04-2015`), if a day above 12 shows which
    number is the month.

    Raises:
        ValueError: a text is none of these, no date that exists, or may be two dates.
    """
    values = pc.utf8_trim_whitespace(column.values)
    forms = {"year first": _YEAR_FIRST, "RFC 2822": _WEEKDAY + _NAMED}
    there = {name: mask(matches(values, _whole(of))) for name, of in forms.items()}
    digits = mask(matches(values, _whole(_DIGITS)))
    if digits.any():
        first, form = _day_first(column, values, digits)
        forms[form] = _DIGITS.replace("first" if first else "second", "day").replace(
            "second" if first else "first", "month"
        )
        there[form] = digits
    good = np.logical_or.reduce(list(there.values()))
    if not good.all():
        advice = "Correct these rows, drop them, or set data.timestamp_format (as strptime has it)"
        fail(column, ~good, EXPECTED, advice)
    texts: pa.ChunkedArray = values
    for name, rows in there.items():
        if rows.any():
            texts = pc.if_else(pa.array(rows), _iso(values, _whole(forms[name])), texts)
    found = ", ".join(name for name, rows in there.items() if rows.any())
    return _cast(column, texts), found


def _whole(form: str) -> str:
    return f"^{form}{_CLOCK}$"


def _day_first(column: Column, values: pa.ChunkedArray, digits: Array) -> tuple[bool, str]:
    """Return whether the day is first where the year is last, and this in words."""
    parts = pc.extract_regex(values.filter(pa.array(digits)), _whole(_DIGITS))
    one, two = (
        pc.struct_field(parts, [name]).cast(pa.int32()).to_numpy() for name in ("first", "second")
    )
    first, second = bool((one > 12).any()), bool((two > 12).any())
    if first == second:
        advice = 'Set data.timestamp_format, to "%d/%m/%Y" or "%m/%d/%Y" say'
        expected = "dates that are one day only, or one order of day and month in all rows"
        fail(column, digits, expected, advice)
    return first, "day first" if first else "month first"


def _iso(values: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Return texts of a form as ISO times with a zone; what is of another form is null."""
    parts = pc.extract_regex(values, pattern)

    def part(name: str) -> pa.ChunkedArray:
        return pc.struct_field(parts, [name])

    month = _month(part("month"))
    day = pc.utf8_lpad(part("day"), 2, "0")
    clock = _clock(part("clock"), pc.utf8_lower(part("half")))
    zone = pc.replace_substring_regex(part("zone"), "^(UTC|GMT|)$", "Z")
    return pc.binary_join_element_wise(
        pc.binary_join_element_wise(part("year"), month, day, "-"), "T", clock, zone, ""
    )


def _month(names: pa.ChunkedArray) -> pa.ChunkedArray:
    number = pc.index_in(pc.utf8_lower(names), value_set=pa.array(_MONTHS))
    named = pc.add(number, 1).cast(pa.string())
    # A name that is none stays, and is refused as a date that does not exist.
    return pc.utf8_lpad(pc.coalesce(named, names), 2, "0")


def _clock(clock: pa.ChunkedArray, half: pa.ChunkedArray) -> pa.ChunkedArray:
    clock = pc.replace_substring(pc.if_else(pc.equal(clock, ""), "00:00", clock), ",", ".")
    # Arrow reads no more than six decimals.
    clock = pc.replace_substring_regex(clock, r"(\.[0-9]{6})[0-9]+", r"\1")
    split = pc.extract_regex(clock, r"^(?P<hour>[0-9]+)(?P<rest>:.*)$")
    hour, rest = pc.struct_field(split, ["hour"]), pc.struct_field(split, ["rest"])
    # Hours of a text in another form are empty.
    number = pc.if_else(pc.equal(hour, ""), "0", hour).cast(pa.int32())
    twelve = pc.if_else(pc.equal(number, 12), 0, number)
    number = pc.if_else(pc.equal(half, "pm"), pc.add(twelve, 12), number)
    number = pc.if_else(pc.equal(half, "am"), twelve, number)
    return pc.binary_join_element_wise(pc.utf8_lpad(number.cast(pa.string()), 2, "0"), rest, "")


def _cast(column: Column, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return texts.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        distinct = pc.unique(texts)
        bad = [text for text in distinct.to_pylist() if not _exists(text)]
        rows = pc.is_in(texts, value_set=pa.array(bad, pa.string()))
        fail(column, rows, "dates and times that exist", "Correct these rows, or drop them")


def _exists(text: str) -> bool:
    try:
        pa.array([text]).cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return False
    return True


def by_format(column: Column, form: str) -> pa.ChunkedArray:
    """Return the times of text in a format of strptime, timestamps in UTC.

    Raises:
        ValueError: a text is of another form, or no date that exists.
    """
    values = pc.utf8_trim_whitespace(column.values)
    if "%f" in form:
        # Arrow's strptime knows no fractions of seconds, Python's reads one text at a time.
        return _one_by_one(column, values, form)
    times = pc.strptime(values, format=form, unit="us", error_is_null=True)
    if pa.types.is_timestamp(times.type) and times.type.tz is None:
        times = pc.assume_timezone(times, "UTC")
    bad = mask(pc.is_null(times)) | _carried(values, times, form)
    if bad.any():
        _refuse(column, bad, form)
    return times


def _carried(values: pa.ChunkedArray, times: pa.ChunkedArray, form: str) -> Array:
    """Return which texts name a day that their month has not, which Arrow carries over."""
    rows = mask(pc.less_equal(pc.day(times), _CARRIED))
    distinct = pc.unique(values.filter(pa.array(rows)))
    bad = [text for text in distinct.to_pylist() if _python(text, form) is None]
    return rows & mask(pc.is_in(values, value_set=pa.array(bad, pa.string())))


def _one_by_one(column: Column, values: pa.ChunkedArray, form: str) -> pa.ChunkedArray:
    codes = values.combine_chunks().dictionary_encode()
    times = [_python(text, form) for text in codes.dictionary.to_pylist()]
    found = pa.array(times, pa.timestamp("us", "UTC")).take(codes.indices)
    if found.null_count:
        _refuse(column, mask(pc.is_null(found)), form)
    return pa.chunked_array([found])


def _python(text: str, form: str) -> datetime | None:
    try:
        moment = datetime.strptime(text, form)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _refuse(column: Column, bad: Array, form: str) -> None:
    fail(column, bad, f"times of the form {form!r}", "Correct these rows, or data.timestamp_format")


def check_format(form: str) -> str:
    """Return a format of strptime, or raise ValueError where it can name no time."""
    codes: Sequence[str] = [form[i + 1 : i + 2] for i, c in enumerate(form) if c == "%"]
    if not set(codes) & set("YyscDxF"):
        raise ValueError(
            f"timestamp_format: expected a format of strptime with a year, such as %d/%m/%Y, got "
            f"{form!r}"
        )
    if "Z" in codes:
        raise ValueError("timestamp_format: names of zones (%Z) are ambiguous; expected %z or none")
    return form

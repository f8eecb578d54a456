"""The times of a user's own files: their forms and units, and what is refused."""

from datetime import date, datetime

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import NOON, column, load
from train.data.encoded import encode
from train.datasets.files import Files
from train.datasets.times import TimeForm, timestamps


@pytest.mark.parametrize(
    ("values", "unit", "seconds"),
    [
        ([NOON], "s", NOON),
        ([str(NOON)], "s", NOON),
        ([f"{NOON}.75"], "s", NOON),
        ([NOON + 0.75], "s", NOON),
        ([NOON * 1000 + 999], "ms", NOON),
        ([str(NOON * 10**9 + 1)], "ns", NOON),
        (["2024-03-01T12:00:00Z"], "s", NOON),
        (["2024-03-01 12:00"], "s", NOON),
        (["2024-03-01T14:00:00.123456789+02:00"], "s", NOON),
        ([datetime(2024, 3, 1, 12)], "s", NOON),
        ([date(2024, 3, 1)], "s", NOON - 12 * 3600),
        (["2024-03-01"], "s", NOON - 12 * 3600),
        ([-1.5], "order", -2),
    ],
)
def test_times_of_every_form(values, unit, seconds):
    times = timestamps(column(values), TimeForm(unit))
    assert (times.ticks // times.per_second).tolist() == [seconds]


def test_dates_with_and_without_zone_mix():
    times = timestamps(column(["2024-03-01", "2024-03-01T12:00", "2024-03-01T12:00:01+01"]))
    hour = 3600
    assert (times.ticks // times.per_second - NOON).tolist() == [-12 * hour, 0, 1 - hour]


@given(st.lists(st.integers(0, 10**18), min_size=1))
def test_an_order_loses_nothing(values):
    times = timestamps(column(values), TimeForm("order"))
    assert times.ticks.tolist() == values


@given(st.lists(st.integers(7 * 10**17, 17 * 10**17), min_size=1))
def test_nanoseconds_lose_nothing(values):
    times = timestamps(column(values), TimeForm("ns"))
    assert times.ticks.tolist() == values
    assert times.per_second == 10**9


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("2024-03-01 12:00:00 UTC", ()),
        ("2024/3/1 12:00", ()),
        ("2024.03.01T12:00:00.5 GMT", ()),
        ("Fri, 01 Mar 2024 12:00:00 +0000", ()),
        ("1 March 2024 13:00:00 +0100", ()),
        ("Fri, 1 Mar 2024 12:00:00 +0000 (UTC)", ()),
        ("01-03-2024 12:00", ("27-04-2015",)),
        ("01.03.2024, 12:00:00", ("27.04.2015, 00:00:00",)),
        ("3/1/2024 12:00:00 PM", ("12/25/2020 1:02:03 AM",)),
    ],
)
def test_usual_forms_of_times(text, others):
    times = timestamps(column([text, *others]))
    assert times.ticks[0] // times.per_second == NOON


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("01/03/2024 12:00", "%d/%m/%Y %H:%M"),
        ("2024-03-01 12:00:00.250", "%Y-%m-%d %H:%M:%S.%f"),
        ("2024-03-01 13:00 +0100", "%Y-%m-%d %H:%M %z"),
        (202403011200, "%Y%m%d%H%M"),
        (202403011200.0, "%Y%m%d%H%M"),
    ],
)
def test_times_of_a_given_form(text, form):
    times = timestamps(column([text]), TimeForm(format=form))
    assert times.ticks.tolist() == [
        NOON * times.per_second + times.per_second // 4 * ("%f" in form)
    ]


@pytest.mark.parametrize(
    ("values", "form", "message"),
    [
        ([20240131, 20240201], TimeForm(), r'Set data.timestamp_format = "%Y%m%d"'),
        (["20240131101112"], TimeForm(), r'Set data.timestamp_format = "%Y%m%d%H%M%S"'),
        ([2019, 2024], TimeForm(), r'Years\? Set data.timestamp_format = "%Y"'),
        ([19700, 19800], TimeForm(), r'Set data.timestamp_unit = "d"'),
        ([45000.5, 45001.25], TimeForm(), "Days of a spreadsheet"),
        ([NOON * 1000], TimeForm(), r'Set data.timestamp_unit = "ms"'),
        ([NOON], TimeForm("ms"), r'as ms since 1970; .* Set data.timestamp_unit = "s"'),
        ([NOON, NOON * 1000], TimeForm(), "1 is not: .*These read as ms: write all times in one"),
        ([NOON, NOON * 1000], TimeForm("ms"), "1 is not: .*These read as s: write all times in"),
        (
            [NOON, 0],
            TimeForm(),
            r"read as 1970-01-01 00:00:00 to 2024-03-01 .*; 1 is not: 0 \(row 2",
        ),
        ([1, 2, 3], TimeForm(), r'to "order" where numbers give an order alone'),
        (["1970-01-01", "2024-01-01"], TimeForm(), "Are these placeholders"),
        ([datetime(9999, 12, 31)], TimeForm(), "Are these placeholders"),
        (["08/11/2020", "01/02/2020"], TimeForm(), r"one day only.*Set data.timestamp_format"),
        (["13/11/2020", "11/13/2020"], TimeForm(), r"one order of day and month in all rows"),
        (["2024-13-01"], TimeForm(), r"times that exist; 1 is not: '2024-13-01' \(row 1\)"),
        (["1 Foo 2024"], TimeForm(), "times that exist"),
        (["30-02-2024"], TimeForm(format="%d-%m-%Y"), "times of the form '%d-%m-%Y'; 1 is not"),
        (["2024"], TimeForm(format="%d-%m-%Y"), "times of the form '%d-%m-%Y'; 1 is not"),
        ([""], TimeForm(format="%d-%m-%Y"), "expected a time in every row"),
    ],
)
def test_times_that_may_be_others_are_refused(values, form, message):
    with pytest.raises(ValueError, match=message):
        timestamps(column(values), form)


def test_times_that_are_said_to_be_right_are_taken():
    assert timestamps(column([0, 86400]), TimeForm("s")).ticks.tolist() == [0, 86400]
    assert timestamps(column([1, 2.5]), TimeForm("d")).ticks.tolist() == [86400, 216000]
    assert timestamps(column(["1900-01-01"]), TimeForm("s")).ticks[0] < 0


@pytest.mark.parametrize(
    ("times", "read"),
    [
        ([1, 2, 1, 3], True),
        ([0, 1, 0, 2], True),
        ([1, 2, 1, 4], False),
        ([1, 2, 2, 3], False),
        ([2, 3, 2, 4], False),
        ([1, 1, 1, 1], False),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_that_count_rows_of_users_are_an_order(tmp_path, times, read, kind):
    table = pa.table({"user_id": [7, 7, 8, 7], "item_id": [1, 2, 3, 4], "timestamp": times})
    place = tmp_path / f"events.{kind}"
    if kind == "csv":
        pa.csv.write_csv(table, place)
    else:
        pa.parquet.write_table(table, place)
    if read:
        tables = Files(interactions=str(place)).load()
        assert tables.interactions["timestamp"].to_pylist() == times
        assert tables.reading["times"]["as"] == "an order"
    else:
        with pytest.raises(ValueError, match="expected times from 1990 to tomorrow"):
            Files(interactions=str(place)).load()


def test_order_within_a_second_is_kept(tmp_path):
    events = "user_id,item_id,timestamp\n1,a,5900\n1,b,5100\n1,c,5500\n"
    tables = load(tmp_path, {"events.csv": events}, timestamp_unit="ms")
    data = encode(tables)
    assert data.items.external(data.interactions.item) == ["b", "c", "a"]
    assert data.interactions.timestamp.tolist() == [5, 5, 5]

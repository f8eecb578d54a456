"""A user's own files: every form they may have, and what the messages say about wrong ones."""

import gzip
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.core.schema import Tables
from train.datasets.columns import Column
from train.datasets.convert import categories, category, embedding, flag, number, text
from train.datasets.files import Files
from train.datasets.ids import ids_of
from train.datasets.times import TimeForm, timestamps

EVENTS = "user_id,item_id,timestamp\n7,a,100\n8,b,200\n7,b,50\n"


def column(values: Any, kind: pa.DataType | None = None) -> Column:
    array = pa.array(values, kind)
    written = kind is None and pa.types.is_string(array.type)
    return Column("t.csv", "c", pa.chunked_array([array]), written=written)


def load(folder: Path, files: dict[str, str], **settings: Any) -> Tables:
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    sides = {side: str(folder / f"{side}.csv") for side in ("items", "users")}
    given = {side: path for side, path in sides.items() if f"{side}.csv" in files}
    # Times of these tables are small numbers, which are no seconds.
    order = {"timestamp_unit": "order"}
    return Files(interactions=str(folder / "events.csv"), **{**order, **given, **settings}).load()


def test_csv_with_all_kinds_of_columns(tmp_path):
    items = (
        "item_id,name,genres,colour,price,new,text,v_0,v_10,v_2\n"
        'a,"Alpha, the first","x|y",03,1.5,yes,"some\nwords",1,3,2\n'
        "c,,,,,,,,,\n"
    )
    users = "user_id,age\n7,30\n9,\n"
    tables = load(
        tmp_path,
        {"events.csv": EVENTS, "items.csv": items, "users.csv": users},
        title="name",
        item_columns={
            "genres": "categories",
            "colour": "category",
            "price": "number",
            "new": "flag",
            "text": "text",
            "v_": "embedding",
        },
        user_columns={"age": "number"},
    )
    assert tables.interactions.to_pydict() == {
        "user_id": [7, 8, 7],
        "item_id": ["a", "b", "b"],
        "timestamp": [100, 200, 50],
        "weight": [1.0, 1.0, 1.0],
    }
    first, second = tables.items.to_pylist()
    assert first == {
        "item_id": "a",
        "title": "Alpha, the first",
        "genres": ["x", "y"],
        "colour": "03",
        "price": 1.5,
        "new": True,
        "text": "some\nwords",
        "v_": [1.0, 2.0, 3.0],
    }
    assert second.pop("item_id") == "c"
    assert second.pop("genres") == []
    assert set(second.values()) == {None}
    assert tables.users.to_pydict() == {"user_id": [7, 9], "age": [30.0, None]}


def test_parquet_folder_and_uri_and_other_column_names(tmp_path):
    folder = tmp_path / "events"
    (folder / "day=2").mkdir(parents=True)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for place, users, hours in (("a", [1, 2], [3, 1]), ("day=2/b", [3], [0])):
        table = {
            "who": pa.array(users, pa.int32()),
            "what": pa.array(["x"] * len(users)).dictionary_encode(),
            "when": [start + timedelta(hours=hour) for hour in hours],
            "stars": [4] * len(users),
            "not read": [object.__name__] * len(users),
        }
        pa.parquet.write_table(pa.table(table), folder / f"{place}.parquet")
    (folder / "_SUCCESS").touch()
    for location in (str(folder), folder.as_uri()):
        tables = Files(
            interactions=location, user_id="who", item_id="what", timestamp="when", weight="stars"
        ).load()
        # Ordered by the finer times that the files have.
        assert tables.interactions.to_pydict() == {
            "user_id": [3, 2, 1],
            "item_id": ["x", "x", "x"],
            "timestamp": [int(start.timestamp()) + hour * 3600 for hour in (0, 1, 3)],
            "weight": [4.0, 4.0, 4.0],
        }
        assert tables.items.to_pydict() == {"item_id": ["x"], "title": [None]}
        assert sorted(tables.users["user_id"].to_pylist()) == [1, 2, 3]


def test_tabs_gzip_and_other_encodings(tmp_path):
    (tmp_path / "events.tsv").write_bytes(EVENTS.replace(",", "\t").encode())
    place = str(tmp_path / "events.tsv")
    tables = Files(interactions=place, timestamp_unit="order").load()
    assert len(tables.interactions) == 3
    with gzip.open(tmp_path / "events.csv.gz", "wt", encoding="latin-1") as file:
        file.write("user_id,item_id,timestamp\n1,café,3\n")
    path = str(tmp_path / "events.csv.gz")
    tables = Files(interactions=path, encoding="latin-1", timestamp_unit="order").load()
    assert tables.interactions["item_id"].to_pylist() == ["café"]
    with pytest.raises(
        ValueError,
        match=r"events.csv.gz: column 'item_id' is not in utf-8; set data.encoding \(cp1252",
    ):
        Files(interactions=path).load()


def test_weights_and_semicolons(tmp_path):
    events = "user_id;item_id;timestamp;stars\n1;2;3;4.5\n1;3;4;1\n"
    tables = load(tmp_path, {"events.csv": events}, delimiter=";", weight="stars", min_weight=4)
    assert tables.interactions["weight"].to_pylist() == [4.5]


@pytest.mark.parametrize("least", [0.1, 0.7, 0.9, 3.6, 4.8])
@pytest.mark.parametrize("kind", ["csv", pa.float64(), pa.float32(), pa.decimal128(4, 2)], ids=str)
def test_a_weight_equal_to_the_minimum_is_kept(tmp_path, least, kind):
    weights = pa.array([f"{least:.2f}", f"{least - 0.01:.2f}", f"{least + 1:.2f}"])
    table = pa.table({"user_id": [1, 1, 2], "item_id": [1, 2, 3], "stars": weights})
    place = tmp_path / "events"
    if kind == "csv":
        pa.csv.write_csv(table, place)
    else:
        table = table.set_column(2, "stars", weights.cast(pa.float64()).cast(kind, safe=False))
        if pa.types.is_decimal(kind):
            table = table.set_column(2, "stars", weights.cast(kind))
        pa.parquet.write_table(table, place)
    tables = Files(interactions=str(place), weight="stars", min_weight=least).load()
    assert tables.interactions["item_id"].to_pylist() == [1, 3]
    assert tables.interactions.schema.field("weight").type == pa.float32()


def test_a_weight_just_below_the_minimum_is_left_out(tmp_path):
    """As float32, both would be the same number."""
    events = "user_id,item_id,timestamp,stars\n1,a,1,3.6\n1,b,2,3.599999999\n"
    tables = load(tmp_path, {"events.csv": events}, weight="stars", min_weight=3.6)
    assert tables.interactions["item_id"].to_pylist() == ["a"]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.text("07a-", min_size=1), min_size=1))
def test_ids_are_integers_or_stay_as_they_were_written(ids):
    written = [str(value) for value in ids]
    plain = [re.fullmatch("0|-?[1-9][0-9]*", value) is not None for value in written]
    if not all(plain) and sum(plain) > len(plain) / 2:
        with pytest.raises(ValueError, match=r"expected integers, as .* set data.id_type"):
            ids_of([column(written)])
        found = ids_of([column(written)], "string")[0].to_pylist()
    else:
        found = ids_of([column(written)])[0].to_pylist()
    assert [str(value) for value in found] == written
    fits = all(plain) and all(-(2**63) <= int(value) < 2**63 for value in written)
    assert all(isinstance(value, int) for value in found) == fits


def test_ids_of_two_tables_have_one_type():
    numbers, words = ids_of([column(["1", "2"]), column(["1", "b", "c"])])
    assert numbers.to_pylist() == ["1", "2"]
    assert words.to_pylist() == ["1", "b", "c"]
    for ids in ids_of([column([1, 2], pa.int32()), column(["1", "2"])]):
        assert ids.to_pylist() == [1, 2]
    # Text of CSV is what the strings of Parquet are.
    for ids in ids_of([column(["1", "2"]), column(["1", "2"], pa.string())]):
        assert ids.to_pylist() == ["1", "2"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]
)
def test_strings_of_parquet_stay_strings(kind):
    for of in (kind, pa.dictionary(pa.int32(), kind)) if kind != pa.string_view() else (kind,):
        values = pa.array(["1", "2", "1"]).cast(kind).cast(of)
        assert ids_of([column(values, of)])[0].to_pylist() == ["1", "2", "1"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["7.0", "8.0"], None),
        (["7", "8.00"], None),
        ([7.0, 8.0], pa.float64()),
        (["7", "8"], pa.decimal128(38, 0)),
        ([7, 8], pa.uint64()),
    ],
)
def test_whole_numbers_are_integers_however_they_are_written(values, kind):
    array = pa.array(values).cast(kind) if kind else pa.array(values)
    assert ids_of([column(array, kind)])[0].to_pylist() == [7, 8]


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ([(["1", "2", "x"], None)], None, r"as 66\.7% of the ids are; 1 is not: 'x' \(row 3\)"),
        ([(["1", "x"], None)], "integer", r"expected integers .*: 'x' \(row 2\)"),
        ([([1, 2], pa.int64()), (["1"], pa.string())], None, "expected ids of one type in both"),
        ([([1.5], None)], None, r"1 is not: 1.5 \(row 1\). Write whole numbers"),
        ([([2**63, 1], pa.uint64())], None, r"integers of at most 9.*: 9223372036854775808 \(row"),
        ([([b"\xff"], pa.binary())], None, "expected text in UTF-8"),
        ([([True], None)], None, "expected ids, integers or strings; it holds bool"),
    ],
)
def test_ids_that_may_be_mistakes_are_refused(columns, kind, message):
    with pytest.raises(ValueError, match=message):
        ids_of([column(*of) for of in columns], kind)


@pytest.mark.parametrize(
    "word",
    ["nan", "NaN", "None", "null", "NULL", "NA", "N/A", "<NA>", "undefined", "\\N", " ", "NaT"],
)
def test_what_stands_for_missing_is_no_id_and_no_category(tmp_path, word):
    events = EVENTS + f"{word},a,300\n7,{word},400\n"
    with pytest.raises(ValueError, match=r"an id in every row; 1 is not: .* \(row 5\)"):
        load(tmp_path, {"events.csv": events})
    tables = load(tmp_path, {"events.csv": events}, missing_ids="drop")
    assert len(tables.interactions) == 3
    assert tables.reading["dropped"]["without an id"] == 2
    pa.parquet.write_table(pa.table({"c": ["x", word]}), tmp_path / "t.parquet")
    assert category(column(["x", word])).to_pylist() == ["x", None]
    assert number(column(["1", word])).to_pylist() == [1.0, None]
    assert categories(column([f"x|{word}", word])).to_pylist() == [["x"], []]


def test_rows_are_named_as_they_are_in_the_file_where_others_were_dropped(tmp_path):
    events = "user_id,item_id,timestamp\n,a,1\n7,a,soon\n7,b,3\n8,b,4\n"
    with pytest.raises(ValueError, match=r"1 is not: 'soon' \(row 2\)"):
        load(tmp_path, {"events.csv": events}, missing_ids="drop")


def test_tables_that_do_not_join_are_refused_and_half_of_them_is_told(tmp_path, caplog):
    items = "item_id,year\n"
    for ids, hint in (("A\nB\n", "the case of letters"), ("a \nb \n", "spaces around them")):
        files = {"events.csv": EVENTS, "items.csv": "item_id\n" + ids}
        with pytest.raises(ValueError, match=rf"items.csv: .* 0 of 2 ids .* 'a', 'b', .*{hint}"):
            load(tmp_path, files)
    some = EVENTS + "7,c,1\n7,d,2\n"
    load(tmp_path, {"events.csv": some, "items.csv": items + "a,1\nz,2\n"})
    assert "1 of 4 ids of the interactions are there; not there are 'b', 'c', 'd'" in caplog.text
    caplog.clear()
    tables = load(tmp_path, {"events.csv": some, "items.csv": items + "a,1\nb,2\nz,3\n"})
    assert not caplog.records
    assert tables.reading["ids"]["item_id"]["in_table"] == (2, 4, 3)


def test_ids_may_have_other_names_in_their_tables(tmp_path):
    files = {"events.csv": EVENTS, "items.csv": "id,year\na,1\nb,2\n", "users.csv": "uid\n7\n8\n"}
    tables = load(tmp_path, files, items_id="id", users_id="uid", item_columns={"year": "number"})
    assert tables.items["item_id"].to_pylist() == ["a", "b"]
    assert tables.users["user_id"].to_pylist() == [7, 8]


def test_types_of_ids_may_be_said(tmp_path):
    tables = load(tmp_path, {"events.csv": EVENTS}, id_type={"user_id": "string"})
    assert tables.interactions["user_id"].to_pylist() == ["7", "8", "7"]
    with pytest.raises(ValueError, match=r"column 'item_id' .*expected integers of at most"):
        load(tmp_path, {"events.csv": EVENTS}, id_type="integer")


NOON = int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp())


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
    assert tables.interactions["item_id"].to_pylist() == ["b", "c", "a"]
    assert tables.interactions["timestamp"].to_pylist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("convert", "values", "expected"),
    [
        (number, ["1", " 2.5 ", "", "NA", "-.5e1"], [1.0, 2.5, None, None, -5.0]),
        (number, [1.0, float("nan"), None], [1.0, None, None]),
        (number, [True, False], [1.0, 0.0]),
        (category, ["x", " ", " y "], ["x", None, "y"]),
        (category, [3.0, None], ["3", None]),
        (category, [2.5, 3.0], ["2.5", "3"]),
        (category, [7, None], ["7", None]),
        (categories, ["x| y||", "", None], [["x", "y"], [], []]),
        (categories, [["x", None], None, [], ["y"]], [["x"], [], [], ["y"]]),
        (categories, [[1, 2]], [["1", "2"]]),
        (flag, ["Yes", "0", ""], [True, False, None]),
        (flag, [1, 0, None], [True, False, None]),
        (flag, [1.0, 0.0], [True, False]),
        (text, ["a b", ""], ["a b", None]),
    ],
)
def test_attributes_of_every_form(convert, values, expected):
    assert convert(column(values)).to_pylist() == expected


def test_embeddings_of_every_form():
    lists = embedding([column([[1.0, 2.0], None])])
    assert lists.type == pa.list_(pa.float32(), 2)
    assert lists.to_pylist() == [[1.0, 2.0], None]
    fixed = column([[1.0, 2.0], None], pa.list_(pa.float64(), 2))
    assert embedding([fixed]).to_pylist() == [[1.0, 2.0], None]
    assert embedding([column(["1", ""]), column([2, None])]).to_pylist() == [[1.0, 2.0], None]


def as_view(values: list[Any], of: pa.DataType, large: bool) -> pa.Array:
    """Return lists as views: offsets and sizes into values that stand in another order."""
    kind = pa.LargeListViewArray if large else pa.ListViewArray
    flat = pa.array([*values[1], *values[0]], of)
    sizes = [len(value) for value in values]
    return kind.from_arrays([sizes[1], 0], sizes, flat)


LISTS = {
    "list": lambda values, of: pa.array(values, pa.list_(of)),
    "large_list": lambda values, of: pa.array(values, pa.large_list(of)),
    "fixed_size_list": lambda values, of: pa.array(values, pa.list_(of, 2)),
    "list_view": lambda values, of: as_view(values, of, large=False),
    "large_list_view": lambda values, of: as_view(values, of, large=True),
}


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
def test_every_type_of_list(make):
    numbers, words = [[1.0, 2.0], [3.0, 4.0]], [["a", "b"], ["c", "a"]]
    for of in (pa.float64(), pa.float32(), pa.float16()):
        array = make(numbers, of)
        assert embedding([column(array, array.type)]).to_pylist() == numbers
    for of in (pa.string(), pa.large_string(), pa.string_view()):
        array = make(words, of)
        assert categories(column(array, array.type)).to_pylist() == words


WRONG_FILES = {
    "column": (
        {"events.csv": "user,item_id,timestamp\n1,2,3\n"},
        {},
        "events.csv: no column 'user_id'; it has: user, item_id, timestamp. Set the column names",
    ),
    "embedding": (
        {"events.csv": EVENTS, "items.csv": "item_id\na\n"},
        {"item_columns": {"v_": "embedding"}},
        "items.csv: no column 'v_'; it has: item_id.",
    ),
    "empty": (
        {"events.csv": "user_id,item_id,timestamp\n"},
        {},
        "events.csv: expected rows; the table is empty",
    ),
    "ragged": (
        {"events.csv": "user_id,item_id,timestamp\n1,2\n"},
        {},
        "events.csv: cannot be read as CSV: CSV parse error: Row #2: Expected 3 columns, got 2",
    ),
    "ragged far below": (
        {"events.csv": "user_id,item_id,timestamp\n" + "1,2,3\n" * 400_000 + "1,2\n"},
        {},
        "events.csv: cannot be read as CSV: CSV parse error: Row #400002: Expected 3 columns, got",
    ),
    "time": (
        {"events.csv": EVENTS + "9,c,soon\n9,d,later\n"},
        {},
        "events.csv: column 'timestamp' (5 rows): expected numbers; 2 are not: "
        "'soon' (row 4), 'later' (row 5). Correct these rows",
    ),
    "no time": (
        {"events.csv": EVENTS + "9,c,\n9,d,NaN\n"},
        {},
        "column 'timestamp' (5 rows): expected a time in every row; 2 are not: "
        "an empty value (row 4), 'NaN' (row 5).",
    ),
    "date": (
        {"events.csv": "user_id,item_id,timestamp\n1,2,2024-01-01\n1,3,yesterday\n"},
        {},
        "(2 rows): expected ISO dates or times (2024-01-31, 2024-01-31T23:59:59Z), or another "
        "usual form, in every row; 1 is not: 'yesterday' (row 2).",
    ),
    "no such date": (
        {"events.csv": "user_id,item_id,timestamp\n1,2,2024-02-31\n"},
        {},
        "expected dates and times that exist; ",
    ),
    "milliseconds": (
        {"events.csv": f"user_id,item_id,timestamp\n1,2,{NOON}000\n"},
        {"timestamp_unit": None},
        "expected times from 1990 to tomorrow, as s since 1970; they are read as 1.70929e+12 s "
        f"to 1.70929e+12 s; 1 is not: '{NOON}000' (row 1). "
        'Set data.timestamp_unit = "ms"',
    ),
    "weight": (
        {"events.csv": "user_id,item_id,timestamp,stars\n1,2,3,\n1,2,3,4\n"},
        {"weight": "stars"},
        "column 'stars' (2 rows): expected a weight in every row; 1 is not: an empty value (row 1)",
    ),
    "no id": (
        {"events.csv": "user_id,item_id,timestamp\n1,a,1\n,b,2\n"},
        {},
        "column 'user_id' (2 rows): expected an id in every row; 1 is not: an empty value (row 2)",
    ),
    "duplicate items": (
        {"events.csv": EVENTS, "items.csv": "item_id\na\nb\na\n"},
        {},
        "items.csv: column 'item_id' (3 rows): expected every id once; 2 are not: "
        "'a' (row 1), 'a' (row 3). Keep one row an id",
    ),
    "duplicate users": (
        {"events.csv": EVENTS, "users.csv": "user_id\n7\n7\n"},
        {},
        "users.csv: column 'user_id' (2 rows): expected every id once; 2 are not: 7 (row 1)",
    ),
    "text in a number": (
        {"events.csv": EVENTS, "items.csv": "item_id,year\na,1999\nb,new\n"},
        {"item_columns": {"year": "number"}},
        "items.csv: column 'year' (2 rows): expected numbers; 1 is not: 'new' (row 2).",
    ),
    "infinity": (
        {"events.csv": EVENTS, "items.csv": "item_id,year\na,1999\nb,inf\n"},
        {"item_columns": {"year": "number"}},
        "expected finite numbers; 1 is not: 'inf' (row 2).",
    ),
    "flag": (
        {"events.csv": EVENTS, "items.csv": "item_id,new\na,1\nb,2\n"},
        {"item_columns": {"new": "flag"}},
        "expected flags: true/false, yes/no or 1/0; 1 is not: '2' (row 2).",
    ),
    "part of an embedding": (
        {"events.csv": EVENTS, "items.csv": "item_id,v_0,v_1\na,1,2\nb,1,\n"},
        {"item_columns": {"v_": "embedding"}},
        "column 'v_1' (2 rows): expected a number in every place; 1 is not: an empty value (row 2)",
    ),
}


@pytest.mark.parametrize(("files", "settings", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_what_is_wrong_in_a_file_is_named(tmp_path, files, settings, message):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, files, **settings)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder '.*none.csv'; looked for /"):
        Files(interactions=str(tmp_path / "none.csv")).load()


def test_a_folder_without_tables_or_with_both_kinds(tmp_path):
    (tmp_path / "notes.txt").touch()
    dataset = Files(interactions=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"expected a folder with .csv .* it has 1 hidden or empty ones"
    ):
        dataset.load()
    (tmp_path / "a.csv").write_text(EVENTS)
    pa.parquet.write_table(pa.table({"user_id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="it has both"):
        dataset.load()


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "events.parquet").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"events.parquet: expected Parquet, .* begins with b'a,b"):
        Files(interactions=str(tmp_path / "events.parquet")).load()


@pytest.mark.parametrize(
    ("convert", "values", "message"),
    [
        (number, [["a"]], r"expected numbers; it holds list<.*>: \['a'\]"),
        (number, [1, -1e39], r"expected numbers of at most 3.4e\+38.* 1 is not: -1e\+39 \(row 2\)"),
        (lambda c: embedding([c]), [[1e39]], "expected numbers of at most"),
        (number, [date(2024, 1, 1)], "expected numbers; it holds date32"),
        (category, [["a"]], "expected one category a row; it holds list"),
        (categories, [1], r"expected lists, or text with the separator '\|'; it holds int64: 1"),
        (text, [1], "expected text; it holds int64: 1"),
        (flag, [2], r"expected flags: .* 1 is not: 2 \(row 1\)"),
        (flag, [0.5], r"expected flags: .* 1 is not: 0.5 \(row 1\)"),
        (lambda c: embedding([c]), [[1.0], [1.0, 2.0]], r"expected 2 numbers in every row; 1 is"),
        (lambda c: ids_of([c]), [[1.5]], "expected ids, integers or strings; it holds list"),
        (timestamps, [["a"]], "expected numbers; it holds list"),
        (timestamps, [None, datetime(2024, 1, 1)], "expected a time in every row"),
    ],
)
def test_typed_columns_of_another_type_are_named(convert, values, message):
    with pytest.raises(ValueError, match=rf"t.csv: column 'c' \({len(values)} rows\): {message}"):
        convert(column(values))


def test_ids_written_in_two_ways_are_named(tmp_path):
    items = {"item_id": [1, 2]}
    pa.parquet.write_table(pa.table(items), tmp_path / "items.parquet")
    with pytest.raises(ValueError) as caught:
        load(tmp_path, {"events.csv": EVENTS}, items=str(tmp_path / "items.parquet"))
    assert "events.csv: column 'item_id' (3 rows): expected integers of " in str(caught.value)
    assert "; 3 are not: 'a' (row 1), 'b' (row 2)" in str(caught.value)

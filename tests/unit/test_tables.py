"""A user's own files: every form they may have, and what the messages say about wrong ones."""

import gzip
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.tables import EVENTS, NOON, column, load
from train.datasets.convert import categories, category, embedding, flag, number, text
from train.datasets.files import Files
from train.datasets.ids import ids_of
from train.datasets.times import timestamps


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
        assert tables.interactions.to_pydict() == {
            "user_id": [1, 2, 3],
            "item_id": ["x", "x", "x"],
            "timestamp": [int(start.timestamp()) + hour * 3600 for hour in (3, 1, 0)],
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


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("above", [1, 400_000], ids=["first block", "later block"])
def test_a_row_that_is_too_short_is_named_by_however_many_threads(tmp_path, above, threads):
    events = "user_id,item_id,timestamp\n" + "1,2,3\n" * above + "1,2\n"
    before = pa.cpu_count()
    pa.set_cpu_count(threads)
    try:
        with pytest.raises(ValueError, match=f"Row #{above + 2}: Expected 3 columns, got 2"):
            load(tmp_path, {"events.csv": events})
    finally:
        pa.set_cpu_count(before)


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

"""The ids of a user's own files: their types, how they are written, and whether they join."""

import re

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import EVENTS, column, load
from train.datasets.convert import categories, category, number
from train.datasets.ids import ids_of


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


def test_an_id_that_is_dropped_says_nothing_of_the_others(tmp_path):
    events = "user_id,item_id,timestamp\n1,a,1\nnan,b,2\n2,a,3\n"
    options = {"missing_ids": "drop", "timestamp_unit": "order"}
    tables = load(tmp_path, {"events.csv": events}, **options)
    assert tables.interactions["user_id"].to_pylist() == [1, 2]
    assert tables.reading["ids"]["user_id"] == {"type": "integer", "count": 2, "examples": [1, 2]}

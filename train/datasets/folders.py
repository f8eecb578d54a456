"""The files of a table: one, or all below a folder, as Spark, Hive and Hadoop write them.

Files and folders whose names begin with `.` or `_` are not data, unless the name is `key=value`;
such a folder is a partition, and its key a column
(https://arrow.apache.org/docs/python/dataset.html#reading-partitioned-data).
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.fs

from train.datasets.formats import is_data, suffixes

# Of a partition without a value.
_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class TablePart:
    """One file of a table.

    Attributes:
        path: in its file system.
        name: for people: relative to a folder; as it was given for one file.
        partition: columns that the names of its folders give.
    """

    path: str
    name: str
    partition: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The files of a table, and what else lies there.

    Attributes:
        system: where they are.
        parts: the files, by name.
        passed_over: other files, and why they are no data.
    """

    system: Any
    parts: Sequence[TablePart]
    passed_over: Mapping[str, str] = field(default_factory=dict)


def listing(location: str) -> Listing:
    """Return the files of a table at a path or URI.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: a folder has no data, or a file that is none.
    """
    system, path = resolved(location)
    info = system.get_file_info(path)
    if info.type == pyarrow.fs.FileType.NotFound:
        raise FileNotFoundError(f"no file or folder {location!r}; looked for {path}")
    if info.type == pyarrow.fs.FileType.File:
        return Listing(system, [TablePart(path, location)])
    inside = system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    files = {posixpath.relpath(i.path, path): i for i in inside if i.is_file}
    reasons = {name: _reason(name, files[name].size) for name in sorted(files)}
    parts = [
        TablePart(files[name].path, name, _partition(name))
        for name, why in reasons.items()
        if not why
    ]
    others = [name for name, why in reasons.items() if why == _NO_TABLE]
    if others or not parts:
        _refuse(location, others, len(files))
    return Listing(system, parts, {name: why for name, why in reasons.items() if why})


def resolved(location: str) -> tuple[Any, str]:
    """Return the file system of a path or URI, and the path in it."""
    if "://" in location:
        system, path = pyarrow.fs.FileSystem.from_uri(location)
        return system, str(path)
    return pyarrow.fs.LocalFileSystem(), str(Path(location).expanduser().absolute())


_NO_TABLE = "no table"


def _reason(name: str, size: int | None) -> str:
    """Return why a file below a folder is passed over, or nothing where it is data."""
    *folders, base = name.split("/")
    hidden = [folder for folder in folders if folder[0] in "._" and "=" not in folder]
    if hidden:
        return f"in the hidden folder {hidden[0]}"
    if base[0] in "._":
        return "hidden"
    if not is_data(name):
        return _NO_TABLE
    return "empty" if size == 0 else ""


def _refuse(location: str, others: Sequence[str], count: int) -> None:
    if not others:
        what = f"{count} hidden or empty ones" if count else "nothing"
        raise ValueError(f"{location}: expected a folder with {suffixes()}; it has {what}")
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    raise ValueError(
        f"{location}: all files of a folder are read, {suffixes()}; {', '.join(others[:3])}{more} "
        "cannot be. Move them elsewhere, or begin their names with _ to have them passed over"
    )


def _partition(name: str) -> dict[str, str | None]:
    pairs = [folder.split("=", 1) for folder in name.split("/")[:-1] if "=" in folder]
    return {unquote(key): None if of == _NULL else unquote(of) for key, of in pairs}

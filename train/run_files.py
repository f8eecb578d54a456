"""Run files: TOML, presets, `extends` and flags."""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cluster import storage
from cluster.cli import explain
from train.datasets.base import PLACES
from train.datasets.files import INSIDE

if TYPE_CHECKING:
    from train.config import Run

# The key of a data set for a folder that is made where it is not there.
DOWNLOADS = "folder"
# Keys whose values are files or presets, and those whose values are folders.
FILES = {"extends", "run"}
FOLDERS = {"storage", "after"}


def read_run(source: str, flags: Sequence[str] = ()) -> "Run":
    """Read a run from a TOML file, or a preset by its name, and apply flags over it.

    Args:
        source: path or URI of a TOML file, or the name of one of `presets()`.
        flags: `--loss.temperature 0.05 ...`; see `apply_flags`.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, or a key or value that is not known.
    """
    table = read_table(source)
    if "data" not in table and {"run", "space"} & table.keys():
        raise ValueError(f"{source} is a sweep, not a run: python -m tune {source}")
    # Not before the file is known to be one: it takes seconds to import.
    from train.flags import apply_flags

    return apply_flags(table, flags)


def checked_run(source: str, flags: Sequence[str] = ()) -> "Run":
    """Read a run as `read_run`, and look whether its data are there: all mistakes in one message.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, keys or values that are not known, or files that are not there.
    """
    try:
        run = read_run(source, flags)
    except ValidationError as error:
        # Flags may name other files.
        also = [] if flags else _absent(read_table(source).get("data"))
        raise ValueError("\n".join([explain(error), *also])) from error
    absent = _absent(run.table()["data"])
    if absent:
        raise ValueError("\n".join(absent))
    return run


def _absent(data: Any) -> list[str]:
    """Return a line for each file of data that is not there; URIs are seen when they are read."""
    if not isinstance(data, dict):
        return []
    places = {key: data[key] for key in PLACES if key != DOWNLOADS and key in data}
    return [
        f"no file or folder {place!r} (data.{key})"
        for key, place in places.items()
        if isinstance(place, str)
        and not storage.is_uri(place)
        and not is_inside(key, place)
        and not storage.exists(place)
    ]


def read_table(source: str, package: str = "train") -> dict[str, Any]:
    """Read a TOML file, or a preset by its name, over the one that its key `extends` names.

    Paths in a file are relative to the file, those of presets and flags to the current folder.
    Tables are merged key by key, but a table with another `name` takes the whole place of that in
    the extended file, and so does every other value.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, or `extends` is no name or path, or leads back to where it began.
    """
    return _extended(source, package, ())


def _extended(source: str, package: str, chain: tuple[str, ...]) -> dict[str, Any]:
    """Return the table of a source that those in the chain extend, one after the other."""
    if source in chain:
        raise ValueError(f"extends goes in a circle: {' -> '.join([*chain, source])}")
    table = _placed(_table(source, package), source, package)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ValueError(f"{source}: extends: expected a preset or a TOML file, got {base!r}")
    try:
        return _merged(_extended(base, package, (*chain, source)), table)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{source} extends what is not there: {error}") from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables merged; what is only a name is the table that has it."""
    merged = dict(base)
    for key, value in over.items():
        earlier = merged.get(key)
        if isinstance(earlier, str):
            earlier = {"name": earlier}
        if isinstance(value, dict) and isinstance(earlier, dict) and _same_name(earlier, value):
            merged[key] = _merged(earlier, value)
        else:
            merged[key] = value
    return merged


def _same_name(earlier: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    return bool(table.get("name", earlier.get("name")) == earlier.get("name"))


def _table(source: str, package: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(source, package))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source} is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{source}: TOML is UTF-8, and line {line} has the byte {byte:#04x}; save it as UTF-8"
        ) from error


def _placed(table: dict[str, Any], source: str, package: str) -> dict[str, Any]:
    """Return a file's table with its paths relative to the file."""
    if source in presets(package) or storage.is_uri(source):
        return table
    folder, placed = Path(source).parent, dict(table)
    for key in FILES & table.keys():
        # The name of a preset is no path; another name without a suffix is a mistake.
        if Path(str(table[key])).suffix:
            placed[key] = _beside(folder, table[key])
    for key in FOLDERS & table.keys():
        placed[key] = _beside(folder, table[key])
    data = table.get("data")
    if isinstance(data, dict):
        placed["data"] = {
            key: _beside(folder, value) if key in PLACES and not is_inside(key, value) else value
            for key, value in data.items()
        }
    return placed


def is_inside(key: str, value: Any) -> bool:
    """Whether a table's place says that it is in the table of interactions."""
    return bool(value == INSIDE and key != INSIDE)


def _beside(folder: Path, place: Any) -> Any:
    """Return a relative path as one below a folder; a URI, or what is no path, as it is."""
    if not isinstance(place, str) or storage.is_uri(place):
        return place
    path = Path(place)
    return place if path.is_absolute() or place.startswith("~") else str(folder / path)


def presets(package: str = "train") -> dict[str, str]:
    """Return the text of each preset of a package by its name."""
    folder = files(package) / "presets"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry.read_text() for entry in found}


def _text(source: str, package: str) -> str:
    known = presets(package)
    if source in known:
        return known[source]
    path = Path(source)
    if storage.is_uri(source) and storage.exists(source):
        return storage.read_bytes(source).decode("utf-8-sig")
    if not path.is_file():
        near = get_close_matches(source, list(known), n=1)
        guess = f"; did you mean {near[0]}?" if near else ""
        raise FileNotFoundError(
            f"no file {source!r}{' (it is a folder)' if path.is_dir() else ''}; expected a TOML "
            f"file or one of the presets: {', '.join(sorted(known))}{guess}"
        )
    # Editors of Windows begin a file with a byte order mark.
    return path.read_text(encoding="utf-8-sig")

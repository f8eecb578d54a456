"""The runs and sweeps in a folder: what each is, and how far; and deleting one."""

import json
from collections.abc import Iterator
from typing import Any

from cluster import storage
from cluster.lease import check_free
from train.identity import DONE, RUN

SWEEP = "sweep.json"


def runs(place: str) -> list[dict[str, Any]]:
    """Return the runs and sweeps in a folder or URI, by name.

    Returns:
        A dict each: `name`, `kind` (run or sweep), `state`, `bundles` (versions, the newest last).

    Raises:
        FileNotFoundError: there is no such folder.
    """
    _check_folder(place)
    homes = {name: storage.join(place, name) for name in storage.names(place)}
    folders = {name: home for name, home in homes.items() if storage.is_folder(home)}
    return [_described(name, home) for name, home in folders.items() if _kind(home)]


def _check_folder(place: str) -> None:
    if not storage.exists(place):
        raise FileNotFoundError(f"no folder {place!r} with runs")
    if not storage.is_folder(place):
        raise NotADirectoryError(f"{place} is a file; expected a folder with runs")


def _kind(home: str) -> str | None:
    """Return what a folder holds; None where it is neither a run nor a sweep."""
    there = storage.names(home)
    return next((kind for kind, of in (("sweep", SWEEP), ("run", RUN)) if of in there), None)


def _described(name: str, home: str) -> dict[str, Any]:
    folders = storage.names(storage.join(home, "bundles"))
    versions = [folder for folder in folders if not folder.startswith(".")]
    kind = _kind(home)
    return {"name": name, "kind": kind, "state": _state(home, kind), "bundles": versions}


def _state(home: str, kind: str | None) -> str:
    try:
        check_free(home)
    except ValueError as error:
        return f"under way: {error}"
    there = storage.names(home)
    if kind == "sweep":
        return (
            "trials have ended" if "trials.json" in there else "unfinished; tune --resume goes on"
        )
    if DONE in there:
        return "complete"
    record = json.loads(storage.read_bytes(storage.join(home, RUN)))
    if "error" in record:
        return f"ended with an error: {record['error'].splitlines()[0]}"
    return "unfinished; the same fit goes on"


def lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield runs as lines of text."""
    if not found:
        yield "no runs"
    width = max((len(of["name"]) for of in found), default=0)
    for of in found:
        yield f"{of['name']:<{width}}  {of['kind']:<5}  {of['state']}"
        yield from (f"{'':<{width}}  bundle {version}" for version in of["bundles"])


def remove(home: str) -> None:
    """Delete a run or a sweep with its bundles.

    Raises:
        ValueError: the folder is neither, or a process writes to it.
    """
    if not storage.exists(home):
        raise ValueError(f"no run {home!r}; see: python -m train runs")
    if not storage.is_folder(home) or _kind(home) is None:
        raise ValueError(
            f"{home} is no run: it holds neither {RUN} nor {SWEEP}; nothing is deleted"
        )
    check_free(home)
    storage.remove(home)

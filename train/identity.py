"""Identity of a run: whether a folder holds this very run, with these settings and this data."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cluster import storage
from train.config import Run
from train.core.redact import plain
from train.data.encoded import Encoded
from train.data.snapshot import fingerprint
from train.datasets.base import PLACES
from train.trainer.job import AROUND

logger = logging.getLogger(__name__)
RUN = "run.json"
DONE = "done.json"
# Experiment tracking and the report change no result.
NOT_PART = ("tracking", "page")
# What a run has made before it has a bundle.
UNFINISHED = ("training", "folds")


def identity_settings(run: Run) -> dict[str, Any]:
    """Return the settings that a run's record has, credentials blanked."""
    table: dict[str, Any] = plain(run.table())
    return {key: value for key, value in table.items() if key not in NOT_PART}


def run_identity(run: Run, data: Encoded) -> dict[str, Any]:
    """Return the record of a run as JSON: its `config`, and the sha256 of `data` and `titles`."""
    return {"config": identity_settings(run), "data": fingerprint(data), "titles": _titles(data)}


def _titles(data: Encoded) -> str:
    texts = "\n".join(json.dumps(title) for title in data.titles.to_pylist())
    return hashlib.sha256(texts.encode()).hexdigest()


def complete(home: str) -> bool:
    """Whether a folder holds a run that has its bundle; one without its record is none."""
    return all(storage.exists(storage.join(home, file)) for file in (RUN, DONE))


def check_name(home: str, identity: Mapping[str, Any]) -> bool:
    """Return whether what a folder holds is to be cleared before a run with an identity begins.

    A run that ended with an error before any towers were trained leaves its name to others.

    Raises:
        ValueError: it holds a run with another identity; the message names the settings that
            differ, or the data.
    """
    place = storage.join(home, RUN)
    if not storage.exists(place):
        return False
    earlier = json.loads(storage.read_bytes(place))
    changed = _changed(earlier, identity)
    if not changed:
        return False
    if "error" in earlier and not _has_results(home):
        return True
    ended = f"; it ended with: {earlier['error']}" if "error" in earlier else ""
    raise ValueError(
        f"run {home} exists with another configuration ({', '.join(changed)} changed); choose "
        f"another --name, or delete that folder to start anew{ended}"
    )


def _changed(earlier: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    settings = _deciding(earlier["config"]), _deciding(identity["config"])
    # Runs of an earlier version say nothing of titles.
    same = earlier.get("titles", identity["titles"]) == identity["titles"]
    same &= earlier["data"] == identity["data"]
    return sorted(changes("", *settings)) or ([] if same else ["the data"])


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a record that decide what comes out."""
    data = {key: value for key, value in config.get("data", {}).items() if key not in PLACES}
    training = {key: of for key, of in config.get("train", {}).items() if key not in AROUND}
    # The driver's own process, and one worker, compute the same.
    training["workers"] = max(1, training.get("workers", 1))
    return {**config, "data": data, "train": training, "storage": None}


def _has_results(home: str) -> bool:
    if storage.exists(storage.join(home, DONE)):
        return True
    return any(name.endswith(".pt") for name in storage.names(storage.join(home, "training")))


@contextmanager
def recorded(home: str, identity: Mapping[str, Any]) -> Iterator[None]:
    """Record a run in its folder, and the error that it ends with, if so; clear what is in the way.

    Its caller holds the lease of the folder.
    """
    if check_name(home, identity):
        logger.info("%s ended with an error before it had any towers; it is begun anew", home)
        clear(home)
    elif storage.names(storage.join(home, "training")):
        logger.info("%s: going on with what was trained before", home)
    storage.sweep(home)
    _write(home, identity)
    try:
        yield
    except Exception as error:
        _write(home, {**identity, "error": str(error) or type(error).__name__})
        raise


def _write(home: str, record: Mapping[str, Any]) -> None:
    storage.write_bytes(storage.join(home, RUN), json.dumps(record, indent=2).encode())


def clear(home: str) -> None:
    """Delete what a run left of trained towers and of folds."""
    for name in UNFINISHED:
        storage.remove(storage.join(home, name))


def changes(path: str, old: Any, new: Any) -> list[str]:
    """Return the keys (`loss.temperature`) at which two tables differ; `path` is "" at the top."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        return [c for k in keys for c in changes(f"{path}.{k}", old.get(k), new.get(k))]
    return [] if old == new else [path[1:]]

"""Identity of a run: whether a folder holds this very run, with these settings and this data."""

import json
from typing import Any

from cluster import storage
from train.config import Run
from train.core.redact import plain
from train.data.encoded import Encoded
from train.data.snapshot import fingerprint

RUN = "run.json"
# Experiment tracking and the report change no result.
NOT_PART = ("tracking", "page")


def identity_settings(run: Run) -> dict[str, Any]:
    """Return the settings that are part of a run's identity, credentials blanked."""
    table: dict[str, Any] = plain(run.table())
    return {key: value for key, value in table.items() if key not in NOT_PART}


def run_identity(run: Run, data: Encoded) -> dict[str, Any]:
    """Return the identity of a run as JSON: its `config` and the sha256 of its `data`."""
    return {"config": identity_settings(run), "data": fingerprint(data)}


def check_name(home: str, identity: dict[str, Any]) -> None:
    """Refuse a folder that holds a run with another identity.

    Raises:
        ValueError: it does; the message names the settings that differ, or the data.
    """
    place = storage.join(home, RUN)
    if not storage.exists(place):
        return
    earlier = json.loads(storage.read_bytes(place))
    if earlier == identity:
        return
    changed = sorted(changes("", earlier["config"], identity["config"])) or ["the data"]
    raise ValueError(
        f"run {home} exists with another configuration ({', '.join(changed)} changed); choose "
        "another --name, or delete that folder to start anew"
    )


def changes(path: str, old: Any, new: Any) -> list[str]:
    """Return the keys (`loss.temperature`) at which two tables differ; `path` is "" at the top."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = {**old, **new}
        return [c for k in keys for c in changes(f"{path}.{k}", old.get(k), new.get(k))]
    return [] if old == new else [path[1:]]

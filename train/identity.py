"""Identity of a run: whether a folder is of this very run."""

import json
from typing import Any

from cluster import storage

RUN = "run.json"


def check_name(home: str, identity: dict[str, Any]) -> None:
    """Check that a run that was here before is this one."""
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

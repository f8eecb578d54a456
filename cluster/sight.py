"""Whether every node of a Ray sees what its workers write to, and what its replicas read."""

import uuid
from typing import Any

from cluster import storage


def check_seen(folder: str) -> None:
    """Check that every node of the Ray of this process sees a folder or URI of this machine.

    The folder is made where it is absent. With a single node, nothing is checked.

    Raises:
        ValueError: a node does not see it; the message names the node and the path.
    """
    if not _others():
        return
    probe = storage.join(folder, f".seen-{uuid.uuid4().hex[:8]}")
    storage.write_bytes(probe, b"")
    try:
        _ask(probe, folder, "workers there write to it: set storage to")
    finally:
        storage.remove(probe)


def check_readable(folder: str, file: str) -> None:
    """Check that every node of the Ray of this process sees a file of a folder or URI.

    Raises:
        ValueError: a node does not see it; the message names the node and the folder.
    """
    _ask(storage.join(folder, file), folder, "replicas there read it: put it in")


def _ask(file: str, folder: str, what: str) -> None:
    import ray

    others = _others()
    found = ray.get([_on(node["NodeID"], file) for node in others])
    for node, why in zip(others, found, strict=True):
        if why:
            raise ValueError(
                f"node {node['NodeManagerAddress']} ({node['NodeManagerHostname']}) does not see "
                f"{folder} as this machine does ({why}); {what} a folder that every node shares, "
                "at the same path, or a URI such as s3://bucket/folder"
            )


def _others() -> list[dict[str, Any]]:
    """Return the nodes besides that of this process."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]


def _on(node: str, file: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_look).options(num_cpus=0, scheduling_strategy=there).remote(file)


def _look(file: str) -> str:
    """Return why a file is not seen here; "" if it is."""
    try:
        return "" if storage.exists(file) else f"no such folder, or another one: {file}"
    except (OSError, ValueError) as error:
        return str(error)

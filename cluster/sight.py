"""Whether every node of a Ray sees a folder that its workers write to."""

import uuid
from typing import Any

from cluster import storage


def check_seen(folder: str) -> None:
    """Check that every node of the Ray of this process sees a folder or URI of this machine.

    The folder is made where it is absent. With a single node, nothing is checked.

    Raises:
        ValueError: a node does not see it; the message names the node and the path.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    if not others:
        return
    probe = storage.join(folder, f".seen-{uuid.uuid4().hex[:8]}")
    storage.write_bytes(probe, b"")
    try:
        found = ray.get([_on(node["NodeID"], probe) for node in others])
    finally:
        storage.remove(probe)
    for node, why in zip(others, found, strict=True):
        if why:
            raise ValueError(_message(folder, node["NodeManagerHostname"], node, why))


def _message(folder: str, host: str, node: dict[str, str], why: str) -> str:
    return (
        f"node {node['NodeManagerAddress']} ({host}) does not see {folder} as this machine does "
        f"({why}); workers there write to it: set storage to a folder that every node shares, at "
        "the same path, or to a URI such as s3://bucket/folder"
    )


def _on(node: str, probe: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_look).options(num_cpus=0, scheduling_strategy=there).remote(probe)


def _look(probe: str) -> str:
    """Return why a file is not seen here; "" if it is."""
    try:
        return "" if storage.exists(probe) else f"no such folder, or another one: {probe}"
    except (OSError, ValueError) as error:
        return str(error)

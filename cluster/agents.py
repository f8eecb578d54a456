"""Ports of a Ray node's agents, known before the agents run, so that a busy machine gets its node.

A node waits for the files in which its agents write their ports, for 15 s that no setting changes,
and aborts if a file is missing. Here the ports are chosen before, and the files written.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from cluster.ports import free_ports

PORTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)
"""Arguments of Ray's function that starts a node, and names of the files with their values."""


@contextlib.contextmanager
def known_ports() -> Iterator[None]:
    """Choose the ports of the agents of a node that this process starts meanwhile."""
    from ray._private import services
    from ray._raylet import persist_port  # type: ignore[attr-defined]  # compiled

    start = services.start_raylet
    signature = inspect.signature(start)

    def start_with_ports(*given: Any, **named: Any) -> Any:
        arguments = signature.bind(*given, **named).arguments
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        for name, port in ports.items():
            persist_port(arguments["session_dir"], arguments["node_id"], name, port)
        return start(**arguments | ports)

    services.start_raylet = start_with_ports
    try:
        yield
    finally:
        services.start_raylet = start


def ray_command() -> None:
    """Run Ray's own command line, whose words are those of this process."""
    from ray.scripts.scripts import main

    with known_ports():
        main()

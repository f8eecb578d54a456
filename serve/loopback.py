"""A patch of Ray Serve that keeps the replicas' internal gRPC servers off the network."""

from typing import Any

import ray.util
from ray.serve._private import replica

_OPENER = "add_port_to_grpc_server"


def bind_to_node() -> None:
    """Let this replica's internal gRPC server listen on its node's address only.

    Deployments call each other through it, at the node's address; Ray opens it on every address of
    the machine, without authentication, and has no setting for that. Call this function in the
    constructor of a deployment: Ray starts the server after that.
    """
    listen: Any = getattr(replica, _OPENER)
    host = ray.util.get_node_ip_address()
    if getattr(listen, "bound", None) is not None:
        return

    def on_node(server: Any, address: str) -> Any:
        return listen(server, address.replace("[::]", f"[{host}]" if ":" in host else host))

    on_node.bound = host  # type: ignore[attr-defined]
    setattr(replica, _OPENER, on_node)

"""The network interface that a node talks to other nodes through."""

import ipaddress
import os

import psutil

# Read by gloo, by NCCL and by tensorpipe. Unless told they listen where the name of the machine
# points: at 127.0.1.1 on a Debian, where no other machine reaches it.
NAMES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")


def use_own_interface() -> None:
    """Let the workers of a training on this node talk through the interface of its address.

    Variables that are set stay. Call it in a worker, on its own node: names differ by machine.
    """
    import ray

    if interface := interface_of(ray.util.get_node_ip_address()):
        for name in NAMES:
            os.environ.setdefault(name, interface)


def interface_of(address: str) -> str | None:
    """Return the name of the interface with an IP address of this machine; None if it has none."""
    if ipaddress.ip_address(address).is_loopback:
        # Only one of the 16 million of 127.0.0.0/8 is listed, and all are there.
        address = "127.0.0.1"
    return next(
        (
            name
            for name, addresses in sorted(psutil.net_if_addrs().items())
            # An IPv6 address of a link ends with `%INTERFACE`.
            if address in {found.address.partition("%")[0] for found in addresses}
        ),
        None,
    )

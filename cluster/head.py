"""Ray nodes on this machine that outlive the command: start, find and stop them.

`ray start` does the work. It runs with `--block` in a session of its own, so that one process
stands for a node and ends with all that it started and nothing else: `ray stop` would stop every
Ray on the machine. Files, logs and the records of running nodes are in one folder.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cluster import environment, haproxy
from cluster.ports import free_ports, try_port

LOOPBACK_HOST = "127.0.0.1"
PORT = 6379
DASHBOARD_PORT = 8265
# On a machine that does much else, Ray takes ten times as long as on an idle one.
START_SECONDS = 300
STOP_SECONDS = 120
RAY = (sys.executable, "-m", "ray.scripts.scripts")
# Ports that Ray fixes by default are left to chance: two nodes fit one machine then.
_COMMON = (
    "--disable-usage-stats",
    "--dashboard-agent-listen-port=0",
    "--min-worker-port=0",
    "--max-worker-port=0",
)


@dataclass(frozen=True)
class Node:
    """One node that was started here.

    Attributes:
        pid: of the process that stands for it.
        address: `host:port` of the head it belongs to.
        dashboard: URL of the dashboard, "" unless it is the head.
    """

    pid: int
    address: str
    dashboard: str


def folder() -> Path:
    """Return the folder of this user's nodes: `RAYTOWER_RAY_DIR`, or one in /tmp.

    Raises:
        PermissionError: the folder belongs to somebody else.
    """
    chosen = os.environ.get("RAYTOWER_RAY_DIR")
    # Ray's sockets are below it and their paths may have 107 bytes: the system's own temporary
    # folder is too deep on some.
    path = Path(chosen) if chosen else Path("/tmp") / f"raytower-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user; set RAYTOWER_RAY_DIR to your own")
    return path


def nodes() -> list[Node]:
    """Return the nodes started here that still run, the head first."""
    records = [Node(**json.loads(path.read_text())) for path in folder().glob("node-*.json")]
    alive = [node for node in records if _alive(node)]
    return sorted(alive, key=lambda node: (not node.dashboard, node.pid))


def running() -> str | None:
    """Return the address of the head that was started here, if it runs."""
    return next((node.address for node in nodes() if node.dashboard), None)


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
        raise ValueError(f"a head is running at {there}; stop it first: python -m cluster stop")
    port = _free(host, port, "--port")
    dashboard_port = _free(host, dashboard_port, "--dashboard-port")
    words = ["--head", f"--port={port}", f"--node-ip-address={host}"]
    words += [f"--dashboard-host={host}", f"--dashboard-port={dashboard_port}"]
    words += [f"--ray-client-server-port={free_ports(1, host)[0]}", f"--temp-dir={folder()}"]
    return _start(
        words + _offer(num_cpus, num_gpus),
        address=f"{host}:{port}",
        dashboard=f"http://{host}:{dashboard_port}",
    )


def start_worker(address: str, num_cpus: int | None = None, num_gpus: int | None = None) -> Node:
    """Add this machine to the Ray whose head is at `address`, with all of its CPUs and GPUs.

    Raises:
        ValueError: the head is on loopback, or the address is not `host:port`.
        ConnectionError: nothing answers at the address.
        OSError: Ray did not start; the message ends with the last lines of its log.
    """
    check_answers(address)
    if address.startswith(f"{LOOPBACK_HOST}:"):
        raise ValueError(
            f"the head at {address} is for this machine alone; one that others may join is started "
            "with --host and the address that they reach it at"
        )
    return _start([f"--address={address}", *_offer(num_cpus, num_gpus)], address=address)


def stop() -> list[Node]:
    """Stop every node that was started here, workers first, and return them."""
    stopped = nodes()[::-1]
    for node in stopped:
        _stop(node)
        _record(node.pid).unlink(missing_ok=True)
    for pattern in ("session_*", "haproxy-*"):
        for leftover in folder().glob(pattern):
            if not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
    return stopped


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
    environment.use_token()
    ours = [place for node in nodes() for place in (node.address, node.dashboard)]
    if address in ours and LOOPBACK_HOST in address:
        environment.stay_on_loopback()


def shell(node: Node) -> str:
    """Return the `export` line with which Ray's own commands reach a head of this machine."""
    settings = {
        "RAY_ADDRESS": node.address,
        "RAY_API_SERVER_ADDRESS": node.dashboard,
        "RAY_AUTH_MODE": "token",
    }
    if node.address.startswith(LOOPBACK_HOST):
        settings |= environment.LOOPBACK
    return "export " + " ".join(f"{name}={value}" for name, value in settings.items())


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
    _make_token(environ)
    handle, log = tempfile.mkstemp(prefix="start-", suffix=".log", dir=folder())
    with open(handle, "w") as output:
        process = subprocess.Popen(
            [*RAY, "start", "--block", *words, *_COMMON],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
        )
    node = Node(process.pid, address, dashboard)
    _record(node.pid).write_text(json.dumps(asdict(node)))
    _wait_for_start(process, node, Path(log))
    return node


def _environment(loopback: bool) -> dict[str, str]:
    defaults = {**environment.DEFAULTS, **environment.SERVE, "RAY_AUTH_MODE": "token"}
    if loopback:
        defaults |= environment.LOOPBACK
    if sys.platform == "linux":
        defaults |= haproxy.environment(Path(tempfile.mkdtemp(prefix="haproxy-", dir=folder())))
    # A job's `python` has to be this one, whether or not its environment is activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return defaults | os.environ | {"PATH": path}


def _make_token(environ: Mapping[str, str]) -> None:
    """Let Ray make the token that it expects of everybody who joins, if there is none yet."""
    token = Path.home() / ".ray" / "auth_token"
    given = environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    if environ["RAY_AUTH_MODE"] != "token" or given or token.exists():
        return
    command = [*RAY, "get-auth-token", "--generate"]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    token.chmod(0o600)


def _wait_for_start(process: subprocess.Popen[bytes], node: Node, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if "Ray runtime started" in log.read_text() and _listens(node.dashboard):
            log.unlink()
            return
        time.sleep(0.2)
    if process.poll() is None:
        _stop(node)
    _record(node.pid).unlink(missing_ok=True)
    last = "\n".join(log.read_text().splitlines()[-5:])
    raise OSError(f"Ray did not start; all that it said is in {log}, and ends with:\n{last}")


def _listens(url: str) -> bool:
    if not url:
        return True
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(node: Node) -> None:
    os.kill(node.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while _alive(node) and time.monotonic() < end:
        time.sleep(0.1)
    if _alive(node):
        os.killpg(node.pid, signal.SIGKILL)


def _record(pid: int) -> Path:
    return folder() / f"node-{pid}.json"


def _alive(node: Node) -> bool:
    """Return whether a node's process runs, and is not a later one with its id."""
    if Path("/proc/self").exists():
        file = Path(f"/proc/{node.pid}/cmdline")
        words = file.read_bytes().split(b"\0") if file.exists() else []
        return b"--block" in words
    listing = ["ps", "-o", "command=", "-p", str(node.pid)]
    listed = subprocess.run(listing, capture_output=True, text=True, check=False)
    return " --block" in listed.stdout

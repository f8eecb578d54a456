"""The nodes that were started on this machine: a folder with their records, sessions and logs."""

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STOP_SECONDS = 120


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
    if not chosen:
        path.chmod(0o700)
    return path


def sessions_folder() -> Path:
    """Return the folder of the sessions of nodes; Ray opens it, and all in it, to everybody."""
    found = folder() / "ray"
    found.mkdir(exist_ok=True)
    return found


def nodes() -> list[Node]:
    """Return the nodes started here that still run, the head first."""
    records = [Node(**json.loads(path.read_text())) for path in folder().glob("node-*.json")]
    alive = [node for node in records if _alive(node)]
    return sorted(alive, key=lambda node: (not node.dashboard, node.pid))


def running() -> str | None:
    """Return the address of the head that the nodes started here belong to, if any runs."""
    return next((node.address for node in nodes()), None)


def record(node: Node) -> None:
    """Write the record of a node that was started."""
    handle, part = tempfile.mkstemp(dir=folder())
    with open(handle, "w") as file:
        json.dump(asdict(node), file)
    os.rename(part, _record(node))


def forget(node: Node) -> None:
    """Delete the record of a node."""
    _record(node).unlink(missing_ok=True)


def end(node: Node) -> None:
    """Stop a node, in an orderly way if it takes no longer than `STOP_SECONDS`."""
    os.kill(node.pid, signal.SIGTERM)
    last = time.monotonic() + STOP_SECONDS
    while _alive(node) and time.monotonic() < last:
        time.sleep(0.1)
    if _alive(node):
        os.killpg(node.pid, signal.SIGKILL)


def _record(node: Node) -> Path:
    return folder() / f"node-{node.pid}.json"


def _alive(node: Node) -> bool:
    """Return whether a node's process runs, and is not a later one with its id."""
    if Path("/proc/self").exists():
        file = Path(f"/proc/{node.pid}/cmdline")
        words = file.read_bytes().split(b"\0") if file.exists() else []
        return b"--block" in words
    listing = ["ps", "-o", "command=", "-p", str(node.pid)]
    listed = subprocess.run(listing, capture_output=True, text=True, check=False)
    return " --block" in listed.stdout

"""What ends with the process that started it: Ray's sessions and HAProxy's files, and their end."""

import atexit
import contextlib
import os
import shutil
import signal
from pathlib import Path

from cluster.nodes import folder as folder_of_nodes

SHORT = Path("/tmp")


def folder() -> Path:
    """Return the folder of these sessions, without those of processes that are gone.

    What still runs of one that is gone is ended. The session of this process is deleted when it
    exits.
    """
    # Apart from those of nodes: each Ray leaves a link to the newest session beside its own.
    found = folder_of_nodes() / "local"
    found.mkdir(mode=0o700, exist_ok=True)
    for session in (*found.glob("session_*_*"), *SHORT.glob(f"{_served()}*")):
        if not _runs(int(session.name.rpartition("_")[2])):
            _end_what_uses(session)
            shutil.rmtree(session, ignore_errors=True)
    atexit.register(clean, found, os.getpid())
    return found


def haproxy_folder() -> Path:
    """Return the folder of HAProxy's files for a Ray of this process, made anew.

    It is not below the folder of the nodes, whose path may be long: HAProxy's sockets lie in it, in
    a folder of 56 letters that Ray makes, and their paths may have 97 bytes.
    """
    made = SHORT / f"{_served()}{os.getpid()}"
    made.mkdir(mode=0o700)
    return made


def _served() -> str:
    """Return what the names of such folders of this user begin with."""
    return f"rts{os.getuid()}_"


def clean(sessions: Path, pid: int) -> None:
    """End the Ray of a process and delete its session, where it is this process."""
    # A process that was forked of it exits with the same handlers.
    if pid != os.getpid():
        return
    import ray

    ray.shutdown()
    for session in sessions.glob(f"session_*_{pid}"):
        shutil.rmtree(session, ignore_errors=True)


def _end_what_uses(folder: Path) -> None:
    """End the processes with this folder in their arguments; without /proc, none is known."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{folder}/".encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

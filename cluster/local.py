"""Sessions of the Rays that end with the process that started them: their files, and their end."""

import atexit
import os
import shutil
from pathlib import Path

from cluster.nodes import folder as folder_of_nodes


def folder() -> Path:
    """Return the folder of these sessions, without those of processes that are gone.

    The session of this process is deleted when it exits.
    """
    # Apart from those of nodes: each Ray leaves a link to the newest session beside its own.
    found = folder_of_nodes() / "local"
    found.mkdir(mode=0o700, exist_ok=True)
    for session in found.glob("session_*_*"):
        if not _runs(int(session.name.rpartition("_")[2])):
            shutil.rmtree(session, ignore_errors=True)
    atexit.register(clean, found, os.getpid())
    return found


def clean(sessions: Path, pid: int) -> None:
    """End the Ray of a process and delete its session, where it is this process."""
    # A process that was forked of it exits with the same handlers.
    if pid != os.getpid():
        return
    import ray

    ray.shutdown()
    for session in sessions.glob(f"session_*_{pid}"):
        shutil.rmtree(session, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

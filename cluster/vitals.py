"""Whether the Ray of this process lives: where a part of it dies, that is said in one sentence.

Left alone, work waits a minute for a head that is gone, and ends in pages of Ray's own log.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

logger = logging.getLogger(__name__)

# Ray's processes without which nothing goes on, as the system and as its documentation name them.
PARTS = {"raylet": "raylet, Ray's process on this machine", "gcs_server": "GCS, the head's process"}
# Seconds between two looks at a head on another machine, and looks in vain until it is gone.
LOOK, LOOKS = 2.0, 5
EXIT_CODE = 1
# What to do where Ray dies in a run.
AGAIN = "The same command goes on at the last checkpoint."


class RayEndedError(RuntimeError):
    """A part of Ray has died; the message says which, where its log is, and what to do."""


@dataclass(frozen=True)
class Part:
    """A process of Ray on this machine.

    Attributes:
        name: a key of `PARTS`.
        pid: of the process.
        log: its file.
    """

    name: str
    pid: int
    log: Path


def parts() -> list[Part]:
    """Return the processes of this machine that the Ray of this process needs."""
    import ray

    node: Any = ray._private.worker._global_node
    session = str(node.get_session_dir_path())
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        name, words = process.info["name"], process.info["cmdline"] or []
        if name in PARTS and any(session in word for word in words):
            found.append(Part(name, process.pid, Path(session) / "logs" / f"{name}.out"))
    return found


@contextlib.contextmanager
def watched(then: str) -> Iterator[None]:
    """End this process with one sentence where the Ray that it is connected to dies meanwhile.

    Ray's own code would have the main thread wait, and print; so a thread ends the process.

    Args:
        then: what to do about it, for the sentence.
    """
    if not hasattr(os, "pidfd_open"):  # Linux has it
        yield
        return
    needed = parts()
    read, write = os.pipe()
    arguments = (needed, _head(needed), read, then)
    thread = threading.Thread(target=_watch, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(write)
        thread.join()
        os.close(read)


def _head(needed: list[Part]) -> tuple[str, int] | None:
    """Return host and port of a head on another machine, None where it is on this one."""
    import ray

    if any(part.name == "gcs_server" for part in needed):
        return None
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def _watch(needed: list[Part], head: tuple[str, int] | None, stop: int, then: str) -> None:
    """Wait for the end of a part; return once `stop` is closed at its other end."""
    handles, missed = {}, 0
    for part in needed:
        with contextlib.suppress(ProcessLookupError):
            handles[os.pidfd_open(part.pid)] = part
    while True:
        ready = select.select([stop, *handles], [], [], LOOK)[0]
        if stop in ready:
            break
        if ready:
            part = handles[ready[0]]
            _end(f"{PARTS[part.name]}, has died; its log: {part.log}", then)
        missed = 0 if head is None or _answers(head) else missed + 1
        if head is not None and missed >= LOOKS:
            _end(f"Ray's head at {head[0]}:{head[1]} does not answer any more", then)
    for handle in handles:
        os.close(handle)


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=LOOK).close()
    except OSError:
        return False
    return True


def _end(what: str, then: str) -> None:
    """Say it, and end this process and what Ray runs for it, before Ray's own code says it."""
    print(f"error: {what}. {then}", file=sys.stderr, flush=True)
    # Other threads of this process hand on what Ray says of it.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGKILL)
    os._exit(EXIT_CODE)

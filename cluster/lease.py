"""The lease of a folder: one process at a time writes the files of a run or of a sweep.

A file in the folder says who holds it, and is renewed while its holder lives. On a file system it
is made by a hard link, which one of several processes gets. Object stores have no such thing: there
a process writes its own lease, waits, and holds it if it is still there.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster import storage

logger = logging.getLogger(__name__)
FILE = "lease.json"
# Seconds between two signs of life; a holder of another machine without one for so long is dead.
BEAT = 10.0
DEAD = 60.0
# Seconds within which whoever saw no lease at an object store has written its own.
SETTLED = 2.0


@contextlib.contextmanager
def leased(home: str) -> Iterator[None]:
    """Hold the lease of a folder or URI, which is made where it is absent.

    Raises:
        ValueError: a process that is alive has it; the message names it.
    """
    place, mine = storage.join(home, FILE), _own()
    _take(home, place, mine)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(place, mine, done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        if (_read(place) or {}).get("token") == mine["token"]:
            storage.remove(place)


def check_free(home: str) -> None:
    """Raise ValueError where a process that is alive holds the lease of a folder or URI."""
    holder = _read(storage.join(home, FILE))
    if holder and _alive(holder):
        raise ValueError(
            f"{home} is being written by process {holder['pid']} on {holder['host']}, since "
            f"{holder['since']}; wait until it ends, stop it, or choose another --name"
        )


def _own() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "processes": _process_space(),
        "begun": _begun(pid),
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "beat": time.time(),
        "token": uuid.uuid4().hex,
    }


def _process_space() -> str:
    """Return what tells the processes of one container from those of another of the same name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _begun(pid: int) -> str | None:
    """Return when a process began, in a form that tells it from a later one with its number."""
    try:
        # The name of the process, in brackets, may have spaces in it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _alive(holder: dict[str, Any]) -> bool:
    here = holder["host"], holder["processes"]
    if here == (socket.gethostname(), _process_space()):
        begun = _begun(holder["pid"])
        return begun is not None and begun == holder["begun"]
    return bool(time.time() - holder["beat"] < DEAD)


def _take(home: str, place: str, mine: dict[str, Any]) -> None:
    check_free(home)
    earlier = _read(place)
    if earlier:
        logger.info("%s: its last writer, %s, is gone", home, earlier["pid"])
        storage.remove(place)
    if storage.is_uri(home):
        storage.write_bytes(place, _bytes(mine))
        time.sleep(SETTLED)
        found = _read(place) or mine
    else:
        found = mine if _linked(Path(place), mine) else (_read(place) or mine)
    if found["token"] != mine["token"]:
        check_free(home)


def _linked(place: Path, mine: dict[str, Any]) -> bool:
    """Make a file that is not there yet, with its content; return whether this process did it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{mine['token'][:8]}.part")
    try:
        with storage.writing(place):
            part.write_bytes(_bytes(mine))
        os.link(part, place)
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _beat(place: str, mine: dict[str, Any], done: threading.Event) -> None:
    """Renew the lease; interrupt this process where another one has taken the folder over."""
    while not done.wait(BEAT):
        try:
            found = _read(place)
            if found and found["token"] != mine["token"]:
                logger.error("%s: process %s writes here now", place, found["pid"])
                os.kill(os.getpid(), signal.SIGINT)
                return
            storage.write_bytes(place, _bytes(mine | {"beat": time.time()}))
        except OSError as error:
            logger.warning("%s could not be renewed: %s", place, error)


def _read(place: str) -> dict[str, Any] | None:
    try:
        holder: dict[str, Any] = json.loads(storage.read_bytes(place))
    except (FileNotFoundError, ValueError):
        return None
    return (
        holder if {"host", "pid", "processes", "begun", "beat", "token"} <= holder.keys() else None
    )


def _bytes(lease: dict[str, Any]) -> bytes:
    return json.dumps(lease, indent=2).encode()

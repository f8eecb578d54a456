"""How much memory this process may use, and what is refused because it needs more."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
GIB = 2**30


def available_memory() -> int:
    """Return the bytes that this process may use: its container's limit, or the machine's memory.

    A limit is that of any of its control groups (cgroup v2 and v1).
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _limit_files():
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(file.read_text()))
    return min(limits)


def check_room(need: int, what: str, advice: str) -> None:
    """Refuse what needs more memory than there can be.

    Args:
        need: bytes that it takes at the least.
        what: it, in words.
        advice: what to do instead.

    Raises:
        ValueError: there are fewer.
    """
    there = available_memory()
    if need > there:
        raise ValueError(
            f"{what} needs {need / GIB:.1f} GiB of memory at least, and this process may use "
            f"{there / GIB:.1f} GiB; {advice}"
        )


def give_back() -> None:
    """Give what was freed back to the machine, where the allocator keeps it (glibc's).

    https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _limit_files() -> Iterator[Path]:
    yield ROOT / "memory" / "memory.limit_in_bytes"
    yield ROOT / "memory.max"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, path = line.split(":", 2)
            own = Path(path.strip("/"))
            for group in (own, *own.parents):
                if not kind:
                    yield ROOT / group / "memory.max"
                elif "memory" in kind.split(","):
                    yield ROOT / "memory" / group / "memory.limit_in_bytes"

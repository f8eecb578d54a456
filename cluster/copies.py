"""Copies of what lies at a URI, on this machine: made once, found again, and in time deleted."""

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path

import pyarrow.fs as pafs

from cluster import storage

# Letters of a copy's name.
COPY_NAME = 32
CACHE_BYTES = 50 * 2**30
# A copy that somebody has asked for since then may be in use.
UNUSED_SECONDS = 86_400


def get_folder(uri: str | os.PathLike[str]) -> Path:
    """Return a local folder with the content of a path or URI, written by `put_folder`.

    A path is returned as it is. A URI is copied into the cache (`XDG_CACHE_HOME`, else `~/.cache`),
    once for each content of its manifest. Where the cache has more than `RAYTOWER_CACHE_BYTES`
    then, copies that nobody has asked for within a day are deleted, the oldest first.

    Raises:
        FileNotFoundError: there is no such folder, or no manifest in it.
    """
    place, path = storage.filesystem(uri)
    if isinstance(place, pafs.LocalFileSystem):
        if not Path(path).is_dir():
            raise FileNotFoundError(f"no such folder: {os.fspath(uri)}")
        return Path(path)
    key = hashlib.sha256(
        storage.absolute(uri).encode() + storage.read_bytes(storage.join(uri, storage.MANIFEST))
    ).hexdigest()
    cached = cache() / key[:COPY_NAME]
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        try:
            with storage.appearing(cached) as part:
                part.mkdir()
                pafs.copy_files(path, str(part), source_filesystem=place)
        except OSError:
            # Replicas start together: another process may have been first.
            if not cached.exists():
                raise
        _make_room(cached)
    os.utime(cached)
    return cached


def is_copy(folder: Path) -> bool:
    """Whether a folder is a copy that `get_folder` made."""
    return folder.parent == cache() and len(folder.name) == COPY_NAME


def forget(copy: Path) -> None:
    """Delete a copy that `get_folder` made; whoever has its files open keeps them."""
    assert is_copy(copy)
    gone = copy.with_name(f".gone-{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):  # another process was first
        copy.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _make_room(newest: Path) -> None:
    """Delete the copies that were asked for the longest ago, while there are too many bytes."""
    limit = int(os.environ.get("RAYTOWER_CACHE_BYTES", CACHE_BYTES))
    asked = {path: path.stat().st_mtime for path in cache().iterdir() if is_copy(path)}
    sizes = {path: sum(file.stat().st_size for file in path.rglob("*")) for path in asked}
    total = sum(sizes.values())
    for path in sorted(asked, key=asked.__getitem__):
        if total <= limit or path == newest or time.time() - asked[path] < UNUSED_SECONDS:
            return
        forget(path)
        total -= sizes[path]


def remember(mark: Path) -> None:
    """Keep a mark in the cache, for later commands; where none can be kept, nothing is."""
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def cache() -> Path:
    """Return the folder of what is kept between commands on this machine."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "raytower"

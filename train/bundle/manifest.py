"""The manifest of a bundle: what it is, what it was made from, and the checksum of every file."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from cluster import copies
from cluster.storage import MANIFEST
from train.core.redact import plain

FORMAT = "raytower-bundle"

FORMAT_VERSION = 8

# 3 has no linear score, 4 has it among the statistics; up to 5 towers are the one source; up to 6
# nothing is hidden from a user, and rows order interactions of one time; up to 7 there are no
# columns of items to filter by.
READABLE = (3, 4, 5, 6, 7, 8)

LIBRARIES = ("numpy", "pyarrow", "safetensors", "hnswlib", "catboost", "torch", "ray")


class BundleError(ValueError):
    """A bundle that is missing, foreign, damaged or too new; the message says what to do."""


def create_manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of the files that lie in `folder`.

    The version is the time to the microsecond and a hash of the files, so names sort by age.

    Args:
        folder: the bundle's files, complete but for the manifest.
        facts: what else to record: name, config, data, metrics, index, reranker.
    """
    files = {path.name: digest(path) for path in sorted(folder.iterdir())}
    content = hashlib.sha256("".join(f"{n} {d}\n" for n, d in files.items()).encode()).hexdigest()
    now = datetime.now(UTC)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": f"{now:%Y%m%dT%H%M%S%f}Z-{content[:10]}",
        "created": now.isoformat(timespec="seconds"),
        "libraries": _libraries(),
        **plain(facts),
        "files": files,
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest` with its own checksum into `folder`."""
    text = _render({**manifest, "checksum": _checksum(manifest)})
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest in `folder`, its format, version and checksum checked.

    Raises:
        BundleError: there is none, or it is foreign, damaged or too new.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it holds no {MANIFEST}") from None
    except ValueError:
        raise BundleError(_damaged(folder, MANIFEST, "it is not JSON")) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} is not a bundle: expected {MANIFEST} with format {FORMAT!r}; write bundles "
            "with `python -m train fit`"
        )
    _check_version(folder, manifest)
    if manifest.pop("checksum", None) != _checksum(manifest):
        raise BundleError(_damaged(folder, MANIFEST, "its checksum does not match its content"))
    return manifest


def verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check that every file of the manifest is there and has its checksum.

    A machine reads the files for that once: that they are right is kept in the cache for the files
    as they are, by their sizes, times and places on the disk.

    Raises:
        BundleError: a file is missing or its content has changed.
    """
    for name in manifest["files"]:
        if not (folder / name).is_file():
            raise BundleError(_damaged(folder, name, "it is missing"))
    seen = copies.cache() / "verified" / _stamp(folder, manifest)
    if seen.exists():
        return
    for name, expected in manifest["files"].items():
        found = digest(folder / name)
        if found != expected:
            reason = f"expected sha256 {expected[:12]}..., got {found[:12]}..."
            raise BundleError(_damaged(folder, name, reason))
    copies.remember(seen)


def _stamp(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Return what changes where a manifest or one of its files is another one."""
    told = [_checksum(dict(manifest))]
    for name in sorted(manifest["files"]):
        of = (folder / name).stat()
        told.append(f"{name} {of.st_size} {of.st_mtime_ns} {of.st_ctime_ns} {of.st_ino}")
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_version(folder: Path, manifest: Mapping[str, Any]) -> None:
    found = manifest.get("format_version")
    if found not in READABLE:
        newer = isinstance(found, int) and found > FORMAT_VERSION
        remedy = "update this installation" if newer else "write the bundle again"
        raise BundleError(
            f"{folder} has format_version {found!r}, this installation reads "
            f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}; {remedy}"
        )


def _damaged(folder: Path, name: str, reason: str) -> str:
    return f"bundle {folder} is damaged: {name}: {reason}; copy it again or write it anew"


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_render(manifest).encode()).hexdigest()


def _render(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = library_version(name)
        except PackageNotFoundError:
            continue
    return found

"""Bundles: a recommender as one folder, opened and written here alone.

A bundle is written under a temporary name and renamed, so it is there whole or not at all. Arrays
lie in safetensors, ids and titles in Arrow, the rest in JSON; nothing is pickled.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from cluster import copies, storage
from train.bundle import trial
from train.bundle.content import ENCODERS, TOWER, sources_record, write_recommender
from train.bundle.manifest import BundleError, create_manifest, write_manifest
from train.bundle.opening import Bundle, open_untried, verified
from train.recommender.recommender import Recommender

logger = logging.getLogger(__name__)

__all__ = ["ENCODERS", "TOWER", "Bundle", "BundleError", "check", "open_bundle", "write"]


def write(
    bundles: str | Path,
    recommender: Recommender,
    facts: Mapping[str, Any],
    extra_files: Mapping[str, bytes] | None = None,
) -> str:
    """Write a bundle as a new folder, named by its version, in the folder or URI `bundles`.

    Args:
        bundles: usually `runs/NAME/bundles`; made when absent.
        recommender: to be stored.
        facts: what the manifest records beside the files: name, config, data, metrics, ...;
            credentials in it are blanked.
        extra_files: further files by name, such as `encoder.json` and `tower.safetensors`.

    Returns:
        The version.

    Raises:
        ValueError: the arrays of the recommender do not fit each other.
    """
    place, path = storage.filesystem(bundles)
    local = isinstance(place, pa.fs.LocalFileSystem)
    if local:
        Path(path).mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=path if local else None))
    try:
        with storage.writing(path if local else draft):
            manifest = _fill(draft, recommender, facts, extra_files or {})
            version = str(manifest["version"])
            # What was made here needs no trial, here.
            trial.mark(draft)
            if local:
                _publish(draft, Path(path) / version)
        if not local:
            storage.put_folder(draft, storage.join(bundles, version))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return version


def open_bundle(location: str | Path) -> Bundle:
    """Open a bundle, every file checked against its checksum.

    Args:
        location: a bundle's folder, a run's folder (its newest bundle is opened), or the URI of
            either (copied into a local cache first).

    Raises:
        BundleError: it is missing, foreign, damaged or too new, or kills who opens it.
    """
    folder, manifest = _whole(_pin(location))
    trial.tried(folder)
    return open_untried(folder, manifest)


def check(location: str | Path) -> tuple[str, dict[str, Any]]:
    """Check a bundle as `open_bundle` does, without loading it.

    Returns:
        The absolute folder or the URI of just this version, and its manifest.

    Raises:
        BundleError: as `open_bundle`.
    """
    pinned = _pin(location)
    folder, manifest = _whole(pinned)
    trial.tried(folder)
    return pinned, manifest


def _pin(location: str | Path) -> str:
    """Return the bundle that `location` is, or the newest in its `bundles`, as `check` does."""
    place = storage.absolute(location)
    if storage.MANIFEST in storage.names(place):
        return place
    if not storage.exists(place):
        raise BundleError(f"no bundle at {location}: expected a bundle's or a run's folder")
    home = storage.join(place, "bundles")
    for name in reversed([name for name in storage.names(home) if not name.startswith(".")]):
        if storage.MANIFEST in storage.names(storage.join(home, name)):
            return storage.join(home, name)
    raise BundleError(
        f"{location} is not a bundle: it holds no {storage.MANIFEST}, and no bundles/VERSION/ "
        "with one; give a folder that `python -m train fit` wrote"
    )


def _whole(pinned: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a bundle on this machine and its manifest, every file checked.

    A copy that is damaged is made again.
    """
    folder = _fetch(pinned)
    try:
        return folder, verified(folder)
    except BundleError as error:
        if not copies.is_copy(folder):
            raise
        logger.warning("%s; copying %s again", error, pinned)
        copies.forget(folder)
    folder = _fetch(pinned)
    return folder, verified(folder)


def _fetch(pinned: str) -> Path:
    try:
        return copies.get_folder(pinned)
    except FileNotFoundError as error:
        raise BundleError(f"bundle {pinned} cannot be read: {error}") from error


def _fill(
    draft: Path,
    recommender: Recommender,
    facts: Mapping[str, Any],
    extra_files: Mapping[str, bytes],
) -> dict[str, Any]:
    write_recommender(draft, recommender)
    recorded = {
        "config": {},
        "index": recommender.index.report,
        "added": recommender.added,
        "sources": sources_record(recommender),
        "item_columns": dict(recommender.columns.kinds),
        "reranker": {},
        **facts,
    }
    recorded["gate"] = {**recorded.get("gate", {}), "served": recommender.served}
    if recommender.reranker is not None:
        recorded["reranker"] = {"name": recommender.reranker.name, **recorded["reranker"]}
    for name, content in extra_files.items():
        (draft / name).write_bytes(content)
    manifest = create_manifest(draft, recorded)
    write_manifest(draft, manifest)
    return manifest


def _publish(draft: Path, target: Path) -> None:
    """Flush every file to the disk, then give the folder its name."""
    # Arrays and the folder are made for their owner alone, whatever the user's mask says.
    mode = (draft / storage.MANIFEST).stat().st_mode & 0o777
    for path in draft.iterdir():
        path.chmod(mode)
    # Whoever may read its files may enter it.
    draft.chmod(mode | (mode & 0o444) >> 2)
    for path in [*draft.iterdir(), draft]:
        _sync(path)
    draft.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

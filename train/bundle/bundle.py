"""Bundles: one folder with everything that recommending needs; this file alone reads and writes it.

A bundle is written under a temporary name and renamed, so it is there whole or not at all. Arrays
lie in safetensors, ids and titles in Arrow, the rest in JSON; nothing is pickled.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import safetensors.numpy

from cluster import storage
from train.bundle import manifest as manifests
from train.bundle.manifest import BundleError
from train.core.ragged import Array, Ragged
from train.data.encoders import Features
from train.data.ids import IdMap
from train.data.snapshot import TowerInputs
from train.data.statistics import Statistics
from train.index.pair_index import PairIndex
from train.index.vector_index import Index
from train.recommender.recommender import CANDIDATES, Recommender
from train.rerankers import stored

if TYPE_CHECKING:
    from train.towers.model import TwoTowerModel

__all__ = ["Bundle", "BundleError", "check", "open_bundle", "write"]

TOWER = "tower.safetensors"
HEAD = "head.safetensors"
GRAPH = "index.hnsw"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        recommender: as it was stored.
        manifest: format version, version, created, name, config, libraries, data, metrics, index,
            reranker (`name`, `earned`, ...), `added` (elements at the end of vectors that scores
            add to products) and the sha256 of every file.
        folder: where it lies; the tower's files are read from here when they are first needed.
    """

    recommender: Recommender
    manifest: Mapping[str, Any]
    folder: Path

    @property
    def version(self) -> str:
        """The time it was made and a hash of its content."""
        return str(self.manifest["version"])

    def model(self) -> "TwoTowerModel":
        """Return the towers, ready to encode.

        Raises:
            ValueError: the bundle has none.
        """
        return _model(self.folder, self.manifest, self.recommender)


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
    _check(recommender)
    place, path = storage.filesystem(bundles)
    local = isinstance(place, pa.fs.LocalFileSystem)
    if local:
        Path(path).mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=path if local else None))
    try:
        manifest = _fill(draft, recommender, facts, extra_files or {})
        version = str(manifest["version"])
        if local:
            _publish(draft, Path(path) / version)
        else:
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
        BundleError: it is missing, foreign, damaged or too new.
    """
    folder = _fetch(_pin(location))
    return _load(folder, _verified(folder))


def check(location: str | Path) -> tuple[str, dict[str, Any]]:
    """Check a bundle as `open_bundle` does, without loading it.

    Returns:
        The absolute folder or the URI of just this version, and its manifest.

    Raises:
        BundleError: as `open_bundle`.
    """
    pinned = _pin(location)
    return pinned, _verified(_fetch(pinned))


def _pin(location: str | Path) -> str:
    """Return the bundle that `location` is, or the newest in its `bundles`, as `check` does."""
    place = storage.absolute(location)
    if manifests.FILE in storage.names(place):
        return place
    if not storage.exists(place):
        raise BundleError(f"no bundle at {location}: expected a bundle's or a run's folder")
    home = storage.join(place, "bundles")
    for name in reversed([name for name in storage.names(home) if not name.startswith(".")]):
        if manifests.FILE in storage.names(storage.join(home, name)):
            return storage.join(home, name)
    raise BundleError(
        f"{location} is not a bundle: it holds no {manifests.FILE}, and no bundles/VERSION/ "
        "with one; give a folder that `python -m train fit` wrote"
    )


def _fetch(pinned: str) -> Path:
    try:
        return storage.get_folder(pinned)
    except FileNotFoundError as error:
        raise BundleError(f"bundle {pinned} cannot be read: {error}") from error


def _verified(folder: Path) -> dict[str, Any]:
    manifest = manifests.read(folder)
    manifests.verify(folder, manifest)
    return manifest


def _fill(
    draft: Path,
    recommender: Recommender,
    facts: Mapping[str, Any],
    extra_files: Mapping[str, bytes],
) -> dict[str, Any]:
    _write_ids(draft, recommender)
    _save(
        draft / "vectors.safetensors", user=recommender.user_vectors, item=recommender.item_vectors
    )
    _save(draft / "histories.safetensors", **_ragged_arrays(recommender.histories))
    _save(draft / "statistics.safetensors", **recommender.statistics.arrays())
    _write_features(draft, "user", recommender.user_features)
    _write_features(draft, "item", recommender.item_features)
    recommender.index.save(draft / (HEAD if isinstance(recommender.index, PairIndex) else GRAPH))
    recorded = {
        "config": {},
        "index": recommender.index.report,
        "added": recommender.added,
        "reranker": {},
        **facts,
    }
    if recommender.reranker is not None:
        recommender.reranker.save(draft)
        recorded["reranker"] = {"name": recommender.reranker.name, **recorded["reranker"]}
    for name, content in extra_files.items():
        (draft / name).write_bytes(content)
    manifest = manifests.create(draft, recorded)
    manifests.write(draft, manifest)
    return manifest


def _load(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    vectors = safetensors.numpy.load_file(folder / "vectors.safetensors")
    items = _read_table(folder / "items.arrow")
    catalogue = items["catalogue"].to_numpy(zero_copy_only=False)
    reranker = manifest["reranker"].get("name")
    recommender = Recommender(
        users=IdMap(_read_table(folder / "users.arrow")["user_id"]),
        items=IdMap(items["item_id"]),
        titles=items.get("title"),
        user_vectors=vectors["user"],
        item_vectors=vectors["item"],
        catalogue=catalogue,
        histories=_ragged(safetensors.numpy.load_file(folder / "histories.safetensors")),
        statistics=Statistics.from_arrays(
            safetensors.numpy.load_file(folder / "statistics.safetensors")
        ),
        user_features=_read_features(folder, "user"),
        item_features=_read_features(folder, "item"),
        index=_read_index(folder, vectors["item"], catalogue, manifest),
        reranker=stored.load(reranker, folder, vectors["item"]) if reranker else None,
        earned=bool(manifest["reranker"].get("earned", True)),
        added=manifest.get("added", 0),
        candidates=int(manifest["config"].get("candidates", CANDIDATES)),
        version=str(manifest["version"]),
    )
    if TOWER in manifest["files"]:
        recommender = replace(recommender, encode=_Encoder(folder, manifest, recommender))
    return Bundle(recommender, manifest, folder)


@dataclass(frozen=True)
class _Encoder:
    """Encodes users with the stored towers, which are read, and torch loaded, at the first call."""

    folder: Path
    manifest: Mapping[str, Any]
    recommender: Recommender

    @cached_property
    def _loaded(self) -> "TwoTowerModel":
        return _model(self.folder, self.manifest, self.recommender)

    def __call__(self, user: Array, history: Ragged) -> Array:
        from train.towers.encode import encode_users

        return encode_users(self._loaded, user, history)


def _model(folder: Path, manifest: Mapping[str, Any], known: Recommender) -> "TwoTowerModel":
    from train.towers import TOWERS
    from train.towers.weights import load

    if TOWER not in manifest["files"]:
        raise ValueError(f"bundle {folder} has no tower; train one: python -m train fit")
    settings = manifest["config"]["tower"]
    tower = TOWERS[settings["name"]].model_validate(settings)
    inputs = TowerInputs(
        known.user_features,
        known.item_features,
        warm_users=known.statistics.user_count > 0,
        warm_items=known.statistics.item_count > 0,
    )
    return load(tower, inputs, folder / TOWER)


def _read_index(
    folder: Path, vectors: Array, catalogue: Array, manifest: Mapping[str, Any]
) -> Index | PairIndex:
    report = manifest["index"]
    if report.get("used") == "exhaustive":
        return PairIndex.load(folder / HEAD, vectors, catalogue)
    # Where hnswlib was missing, there is no graph.
    graph = folder / GRAPH if GRAPH in manifest["files"] else None
    return Index.load(graph, vectors, catalogue, report)


def _check(recommender: Recommender) -> None:
    n_users, n_items = len(recommender.users), len(recommender.items)
    lengths = {
        "user_vectors": (len(recommender.user_vectors), n_users),
        "histories": (len(recommender.histories), n_users),
        "user_features": (len(recommender.user_features.dense), n_users),
        "item_vectors": (len(recommender.item_vectors), n_items),
        "catalogue": (len(recommender.catalogue), n_items),
        "item_features": (len(recommender.item_features.dense), n_items),
        "titles": (n_items if recommender.titles is None else len(recommender.titles), n_items),
    }
    for name, (found, expected) in lengths.items():
        if found != expected:
            raise ValueError(f"a bundle's {name} needs {expected} rows, got {found}")
    if recommender.user_vectors.shape[1] != recommender.item_vectors.shape[1]:
        widths = recommender.user_vectors.shape[1], recommender.item_vectors.shape[1]
        raise ValueError(f"user and item vectors need one width, got {widths[0]} and {widths[1]}")


def _publish(draft: Path, target: Path) -> None:
    """Flush every file to the disk, then give the folder its name."""
    draft.chmod(0o755)
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


def _write_ids(draft: Path, recommender: Recommender) -> None:
    _write_table(draft / "users.arrow", {"user_id": recommender.users.ids})
    items = {"item_id": recommender.items.ids, "catalogue": pa.array(recommender.catalogue)}
    if recommender.titles is not None:
        items["title"] = recommender.titles
    _write_table(draft / "items.arrow", items)


def _write_table(path: Path, columns: Mapping[str, Any]) -> None:
    table = pa.table(dict(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_table(path: Path) -> dict[str, pa.Array]:
    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    return {name: _one_array(table[name]) for name in table.column_names}


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _save(path: Path, **arrays: Array) -> None:
    safetensors.numpy.save_file({k: np.asarray(a, order="C") for k, a in arrays.items()}, path)


def _ragged_arrays(ragged: Ragged, prefix: str = "") -> dict[str, Array]:
    return {f"{prefix}values": ragged.values, f"{prefix}offsets": ragged.offsets}


def _ragged(arrays: Mapping[str, Array], prefix: str = "") -> Ragged:
    return Ragged(arrays[f"{prefix}values"], arrays[f"{prefix}offsets"])


def _write_features(draft: Path, side: str, features: Features) -> None:
    arrays = {"dense": features.dense, **_ragged_arrays(features.categories, "category_")}
    _save(draft / f"{side}_features.safetensors", **arrays)
    names = {"dense_names": features.dense_names, "vocabulary": features.vocabulary}
    (draft / f"{side}_features.json").write_text(json.dumps(names), encoding="utf-8")


def _read_features(folder: Path, side: str) -> Features:
    arrays = safetensors.numpy.load_file(folder / f"{side}_features.safetensors")
    names = json.loads((folder / f"{side}_features.json").read_text(encoding="utf-8"))
    return Features(
        dense=arrays["dense"],
        dense_names=tuple(names["dense_names"]),
        categories=_ragged(arrays, "category_"),
        vocabulary=tuple(names["vocabulary"]),
    )

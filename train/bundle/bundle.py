"""Bundles: one folder with everything that recommending needs; this file alone reads and writes it.

A bundle is written under a temporary name and renamed, so it is there whole or not at all. Arrays
lie in safetensors, ids and titles in Arrow, the rest in JSON; nothing is pickled.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from train.data.statistics import Statistics
from train.index.pair_index import PairIndex
from train.index.vector_index import Index
from train.rerankers import stored as rerankers
from train.rerankers.base import Reranker

if TYPE_CHECKING:
    from train.towers.base import TwoTowerModel

__all__ = ["Bundle", "BundleError", "Parts", "check", "open_bundle", "write"]

TOWER = "tower.safetensors"
HEAD = "head.safetensors"
GRAPH = "index.hnsw"
CANDIDATES = 200


@dataclass(frozen=True)
class Parts:
    """What a bundle holds, in memory.

    Attributes:
        users: user ids and their indices, U of them.
        items: item ids and their indices, I of them.
        titles: strings `[I]` with nulls, or None.
        user_vectors: float32 `[U, d]`.
        item_vectors: float32 `[I, d]`.
        catalogue: the items that may be recommended, bool `[I]`.
        histories: items of each user, oldest first, U rows.
        statistics: what was known about items and users when the bundle was made.
        user_features: encoded attributes of the users.
        item_features: encoded attributes of the items.
        index: search over `item_vectors`; where these are halves of a pair, by trying all.
        reranker: stage 2, or None.
    """

    users: IdMap
    items: IdMap
    titles: pa.Array | None
    user_vectors: Array
    item_vectors: Array
    catalogue: Array
    histories: Ragged
    statistics: Statistics
    user_features: Features
    item_features: Features
    index: Index | PairIndex
    reranker: Reranker | None


@dataclass(frozen=True)
class Bundle(Parts):
    """An opened bundle.

    Attributes:
        manifest: format version, version, created, name, config, libraries, data, metrics, index,
            reranker (`name`, `earned`, ...), `added` (elements at the end of vectors that scores
            add to products) and the sha256 of every file.
        folder: where it lies; the tower's files are read from here when they are first needed.
    """

    manifest: Mapping[str, Any]
    folder: Path

    @property
    def version(self) -> str:
        """The time it was made and a hash of its content."""
        return str(self.manifest["version"])

    @property
    def candidates(self) -> int:
        """How many candidates stage 1 hands to stage 2: as many as when the reranker learned."""
        return int(self.manifest["config"].get("candidates", CANDIDATES))

    @property
    def directions(self) -> Array:
        """Item vectors without what scores add to products, to compare items by, `[I, w]`."""
        return self.item_vectors[:, : self.item_vectors.shape[1] - self.manifest.get("added", 0)]

    @property
    def reranks(self) -> bool:
        """Whether the second stage is there and earned its place."""
        return self.reranker is not None and bool(self.manifest["reranker"].get("earned", True))

    @cached_property
    def item_names(self) -> tuple[list[Any], list[str | None]]:
        """Ids and titles of all items as Python lists: a request wants ten, and fast."""
        titles = [None] * len(self.items) if self.titles is None else self.titles.to_pylist()
        return self.items.ids.to_pylist(), titles

    def encode_users(self, user: Array, history: Ragged) -> Array:
        """Return the vectors of users with histories that came with a request, float32 `[B, d]`.

        The tower does it; a bundle without one takes the mean of the history's item vectors.

        Args:
            user: int32 `[B]`, -1 for a user unknown at training time.
            history: B rows of items, none of them empty.
        """
        if TOWER in self.manifest["files"]:
            return self._tower(user, history)
        sums: Array = np.zeros((len(user), self.item_vectors.shape[1]), dtype=np.float32)
        np.add.at(sums, history.rows, self.item_vectors[history.values])
        sums /= np.maximum(history.lengths, 1)[:, None]
        return sums

    @cached_property
    def _tower(self) -> Callable[[Array, Ragged], Array]:
        from train.towers.encode import encode_users

        model = self.model()
        return lambda user, history: encode_users(model, user, history)

    def model(self) -> "TwoTowerModel":
        """Return the towers, ready to encode.

        Raises:
            ValueError: the bundle has none.
        """
        from train.data import snapshot as models
        from train.towers import TOWERS
        from train.towers.weights import load

        if TOWER not in self.manifest["files"]:
            raise ValueError(f"bundle {self.folder} has no tower; train one: python -m train fit")
        settings = self.manifest["config"]["tower"]
        tower = TOWERS[settings["name"]].model_validate(settings)
        inputs = models.TowerInputs(
            self.user_features,
            self.item_features,
            warm_users=self.statistics.user_count > 0,
            warm_items=self.statistics.item_count > 0,
        )
        return load(tower, inputs, self.folder / TOWER)


def write(
    bundles: str | Path,
    parts: Parts,
    facts: Mapping[str, Any],
    extra_files: Mapping[str, bytes] | None = None,
) -> str:
    """Write a bundle as a new folder, named by its version, in the folder or URI `bundles`.

    Args:
        bundles: usually `runs/NAME/bundles`; made when absent.
        parts: what to write.
        facts: what the manifest records beside the files: name, config, data, metrics, ...;
            credentials in it are blanked.
        extra_files: further files by name, such as `encoder.json` and `tower.safetensors`.

    Returns:
        The version.

    Raises:
        ValueError: the parts do not fit each other.
    """
    _check(parts)
    place, path = storage.filesystem(bundles)
    local = isinstance(place, pa.fs.LocalFileSystem)
    if local:
        Path(path).mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=path if local else None))
    try:
        manifest = _fill(draft, parts, facts, extra_files or {})
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
    draft: Path, parts: Parts, facts: Mapping[str, Any], extra_files: Mapping[str, bytes]
) -> dict[str, Any]:
    _write_ids(draft, parts)
    _save(draft / "vectors.safetensors", user=parts.user_vectors, item=parts.item_vectors)
    _save(draft / "histories.safetensors", **_ragged_arrays(parts.histories))
    _save(draft / "statistics.safetensors", **parts.statistics.arrays())
    _write_features(draft, "user", parts.user_features)
    _write_features(draft, "item", parts.item_features)
    parts.index.save(draft / (HEAD if isinstance(parts.index, PairIndex) else GRAPH))
    recorded = {"config": {}, "index": parts.index.report, "reranker": {}, **facts}
    if parts.reranker is not None:
        parts.reranker.save(draft)
        recorded["reranker"] = {"name": parts.reranker.name, **recorded["reranker"]}
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
    return Bundle(
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
        reranker=rerankers.load(reranker, folder, vectors["item"]) if reranker else None,
        manifest=manifest,
        folder=folder,
    )


def _read_index(
    folder: Path, vectors: Array, catalogue: Array, manifest: Mapping[str, Any]
) -> Index | PairIndex:
    report = manifest["index"]
    if report.get("used") == "exhaustive":
        return PairIndex.load(folder / HEAD, vectors, catalogue)
    # Where hnswlib was missing, there is no graph.
    graph = folder / GRAPH if GRAPH in manifest["files"] else None
    return Index.load(graph, vectors, catalogue, report)


def _check(parts: Parts) -> None:
    n_users, n_items = len(parts.users), len(parts.items)
    lengths = {
        "user_vectors": (len(parts.user_vectors), n_users),
        "histories": (len(parts.histories), n_users),
        "user_features": (len(parts.user_features.dense), n_users),
        "item_vectors": (len(parts.item_vectors), n_items),
        "catalogue": (len(parts.catalogue), n_items),
        "item_features": (len(parts.item_features.dense), n_items),
        "titles": (n_items if parts.titles is None else len(parts.titles), n_items),
    }
    for name, (found, expected) in lengths.items():
        if found != expected:
            raise ValueError(f"a bundle's {name} needs {expected} rows, got {found}")
    if parts.user_vectors.shape[1] != parts.item_vectors.shape[1]:
        widths = parts.user_vectors.shape[1], parts.item_vectors.shape[1]
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


def _write_ids(draft: Path, parts: Parts) -> None:
    _write_table(draft / "users.arrow", {"user_id": parts.users.ids})
    items = {"item_id": parts.items.ids, "catalogue": pa.array(parts.catalogue)}
    if parts.titles is not None:
        items["title"] = parts.titles
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

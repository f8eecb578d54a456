"""What a bundle's files say is not believed: arrays are checked, and the first opening may fail."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.bundles import make_recommender, write_bundle
from train.bundle import bundle, trial
from train.bundle.bundle import BundleError, open_bundle
from train.bundle.checks import check_recommender
from train.bundle.manifest import digest, read_manifest, write_manifest
from train.index import hnsw
from train.index.base import IndexSettings
from train.index.build import build_vector_index
from train.sources.item_to_item import ItemToItemSource


def forged(folder: Path, name: str, content: bytes) -> None:
    """Write another content of a file, and its checksum into the manifest."""
    (folder / name).write_bytes(content)
    found = read_manifest(folder)
    write_manifest(folder, {**found, "files": {**found["files"], name: digest(folder / name)}})


def arrays_with(folder: Path, name: str, **changes: Any) -> bytes:
    found = safetensors.numpy.load_file(folder / name)
    return safetensors.numpy.save(found | changes)


@pytest.mark.parametrize(
    ("name", "key", "change", "message"),
    [
        ("vectors", "user", lambda of: np.full_like(of, np.nan), "user_vectors holds NaN"),
        ("vectors", "item", lambda of: of[:-1], "a catalogue .I., got .79, 8. and .80."),
        ("vectors", "user", lambda of: of[:, :-1], "need one width, got 7 and 8"),
        ("histories", "values", lambda of: of + 80, "histories: expected values from 0 to 79"),
        ("histories", "offsets", lambda of: of[::-1].copy(), "histories: offsets are not those"),
        ("statistics", "item_count", lambda of: of[:-1], "statistics.item_count needs 80 rows"),
        ("statistics", "neighbours", lambda of: of * 0 + 99, "neighbours: expected values from -1"),
        ("item_features", "dense", lambda of: of * np.inf, "item_features holds NaN or infinity"),
        ("item_features", "category_values", lambda of: of - 9, "item_features.categories: expec"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, name: str, key: str, change: Any, message: str
) -> None:
    folder = write_bundle(tmp_path, users=40, items=80, width=8, reranked=False)
    file = f"{name}.safetensors"
    old = safetensors.numpy.load_file(folder / file)[key]
    forged(folder, file, arrays_with(folder, file, **{key: change(old)}))
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def test_arrays_of_sources_are_checked_too() -> None:
    plain = make_recommender(users=20, items=40, reranked=False)
    rows = np.arange(0, 81, 2)
    weights = np.ones(80, np.float32), np.full(80, 41, np.int32), rows, plain.catalogue
    sources: Any = {"ease": ItemToItemSource(*weights)}
    broken = dataclasses.replace(plain, sources=sources, quotas={"tower": None, "ease": None})
    with pytest.raises(ValueError, match=r"source ease\.columns: expected values from 0 to 39"):
        check_recommender(broken)


def test_files_that_are_not_listed_are_not_read(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, users=20, items=40, reranked=False)
    (folder / "repeats.safetensors").write_bytes(b"nothing")
    (folder / "hidden.safetensors").write_bytes(b"nothing")
    assert open_bundle(folder).recommender.repeats is None


@pytest.mark.skipif(hnsw.library() is None, reason="needs hnswlib")
def test_a_graph_that_kills_is_tried_by_another_process(tmp_path: Path) -> None:
    parts = make_recommender(users=40, items=400, reranked=False)
    graph = build_vector_index(IndexSettings(kind="hnsw"), parts.item_vectors, parts.catalogue)
    parts = dataclasses.replace(parts, index=graph)
    folder = tmp_path / bundle.write(tmp_path, parts, {"name": "graph"})
    whole = (folder / "index.hnsw").read_bytes()
    # Behind the header lies a node after the other: its links first. All of them lead far away.
    size = len(whole) // 2 // 4 * 4
    links = np.frombuffer(whole[96:size], dtype=np.uint32).copy()
    links[np.arange(len(links)) % 3 == 1] = 2**31 - 7
    forged(folder, "index.hnsw", whole[:96] + links.tobytes() + whole[96 + 4 * len(links) :])
    with pytest.raises(BundleError):
        open_bundle(folder)


def test_a_process_that_dies_of_a_bundle_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path, users=20, items=40, reranked=False)
    trial.tried(folder)  # it was made here
    found = read_manifest(folder)
    write_manifest(folder, {**found, "name": "another"})
    dies = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
    run = subprocess.run
    monkeypatch.setattr("subprocess.run", lambda _, **options: run(dies, **options))
    with pytest.raises(BundleError, match="a process that opened it died of signal 11"):
        open_bundle(folder)
    monkeypatch.undo()
    assert open_bundle(folder).manifest["name"] == "another"
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("tried twice"))
    open_bundle(folder)

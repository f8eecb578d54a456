"""Bundles: what is written comes back, and every damage is named."""

import dataclasses
import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from cluster import copies
from tests.bundles import make_recommender, write_bundle
from train.bundle import bundle
from train.bundle.bundle import BundleError, open_bundle, write
from train.bundle.content import LINEAR_SCORE
from train.bundle.manifest import FORMAT_VERSION, digest, read_manifest, write_manifest
from train.core.ragged import Array
from train.core.redact import plain
from train.index import hnsw
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates

FILES = (
    "histories.safetensors",
    *(["index.hnsw"] if hnsw.library() else []),
    "item_columns.arrow",
    "item_features.json",
    "item_features.safetensors",
    "items.arrow",
    LINEAR_SCORE,
    "manifest.json",
    "reranker.cbm",
    "statistics.safetensors",
    "user_features.json",
    "user_features.safetensors",
    "users.arrow",
    "vectors.safetensors",
)


@pytest.fixture(scope="module")
def parts() -> Recommender:
    return make_recommender(users=30, items=60, trees=5)


@pytest.fixture(scope="module")
def written(parts: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bundles")
    return home / bundle.write(home, parts, {"name": "planted", "config": {"a": 1}})


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [500, 20_000])
def test_a_bundle_that_cannot_be_written_says_where(
    parts: Recommender, tmp_path: Path, size: int
) -> None:
    with no_file_larger_than(size), pytest.raises(OSError, match="File too large") as caught:
        bundle.write(tmp_path / "bundles", parts, {"name": "planted"})
    assert caught.value.filename == str(tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_all_files_are_for_whom_the_mask_leaves_them(
    parts: Recommender, tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        home = tmp_path / bundle.write(tmp_path, parts, {"name": "planted", "config": {}})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o666 & ~mask}
    assert home.stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.skipif(not hnsw.library(), reason="there is no graph without hnswlib")
def test_a_graph_that_is_cut_off_is_no_index(parts: Recommender, tmp_path: Path) -> None:
    with no_file_larger_than(5_000), pytest.raises(OSError, match=r"hnsw"):
        parts.index.save(tmp_path)


def test_everything_comes_back(parts: Recommender, written: Path) -> None:
    opened = open_bundle(written).recommender
    assert opened.users.ids.equals(parts.users.ids)
    assert opened.items.ids.equals(parts.items.ids)
    assert parts.titles is not None
    assert opened.titles is not None
    assert opened.titles.to_pylist() == parts.titles.to_pylist()
    for name in ("user_vectors", "item_vectors", "catalogue"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(parts, name))
    np.testing.assert_array_equal(opened.histories.values, parts.histories.values)
    np.testing.assert_array_equal(opened.histories.offsets, parts.histories.offsets)
    for name, array in parts.statistics.arrays().items():
        np.testing.assert_array_equal(opened.statistics.arrays()[name], array)
    for name, array in parts.linear_score.arrays().items():
        np.testing.assert_array_equal(opened.linear_score.arrays()[name], array)
    for side in ("user_features", "item_features"):
        ours, theirs = getattr(opened, side), getattr(parts, side)
        np.testing.assert_array_equal(ours.dense, theirs.dense)
        np.testing.assert_array_equal(ours.categories.values, theirs.categories.values)
        assert (ours.dense_names, ours.vocabulary) == (theirs.dense_names, theirs.vocabulary)


def test_the_manifest_says_what_it_is(written: Path) -> None:
    found = open_bundle(written).manifest
    assert found["format_version"] == FORMAT_VERSION
    assert found["version"] == written.name
    assert found["name"] == "planted"
    assert found["config"] == {"a": 1}
    assert found["reranker"]["name"] == "catboost"
    assert "numpy" in found["libraries"]
    assert found["index"]
    assert sorted([*found["files"], "manifest.json"]) == sorted(FILES)


def test_the_files_are_those_expected_and_none_is_a_pickle(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(FILES)
    assert not [path for path in written.iterdir() if path.read_bytes()[:2] == b"\x80\x04"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_a_flipped_byte_is_found_and_named(copy: Path, name: str, place: float) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}|format") as raised:
        open_bundle(copy)
    assert str(copy) in str(raised.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(copy)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None])
def test_another_format_version_is_refused(copy: Path, version: object) -> None:
    found = read_manifest(copy)
    write_manifest(copy, {**found, "format_version": version})
    message = f"format_version {version!r}, this installation reads 3, 4, 5, 6, 7 and 8"
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


def test_a_bundle_of_format_3_has_no_linear_score(tmp_path: Path) -> None:
    """All else is as it was."""
    parts = make_recommender(users=30, items=40, reranked=False, linear_rank=0)
    folder = tmp_path / write(tmp_path, parts, {"name": "old"})
    write_manifest(folder, {**read_manifest(folder), "format_version": 3})
    assert not (folder / LINEAR_SCORE).exists()
    assert not open_bundle(folder).recommender.linear_score


def test_a_bundle_of_format_4_has_the_linear_score_among_its_statistics(copy: Path) -> None:
    """Its two stages answer as those of a bundle that has it in a file of its own."""
    ours, old = open_bundle(copy).recommender, copy
    (old / LINEAR_SCORE).unlink()
    names = {"encode": "linear_encode", "decode": "linear_decode", "residual": "linear_beyond"}
    linear = {names[name]: array for name, array in ours.linear_score.arrays().items()}
    file = old / "statistics.safetensors"
    safetensors.numpy.save_file({**ours.statistics.arrays(), **linear}, file)
    found = read_manifest(old)
    files = {name: digest(old / name) for name in found["files"] if name != LINEAR_SCORE}
    write_manifest(old, {**found, "format_version": 4, "files": files})
    opened = open_bundle(old).recommender
    for name, array in ours.linear_score.arrays().items():
        np.testing.assert_array_equal(opened.linear_score.arrays()[name], array)
    for first, second in zip(_answers(ours), _answers(opened), strict=True):
        np.testing.assert_array_equal(first, second)


def _answers(recommender: Recommender) -> tuple[Array, Array]:
    """Return the items and scores of both stages for some users."""
    users = np.arange(20, dtype=np.int32)
    requests, vectors = of_known_users(recommender, users), recommender.user_vectors[users]
    candidates = find_candidates(recommender, requests, vectors, np.full(len(users), 40))
    return rank_candidates(recommender, requests, vectors, candidates, 10)


def test_a_newer_format_asks_for_an_update(copy: Path) -> None:
    write_manifest(copy, {**read_manifest(copy), "format_version": FORMAT_VERSION + 1})
    with pytest.raises(BundleError, match="update this installation"):
        open_bundle(copy)


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*/absent: expected a bundle's or a run"):
        open_bundle(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        open_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(BundleError, match=r"expected manifest\.json with format 'raytower-bundle'"):
        open_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("[1, 2]")
    with pytest.raises(BundleError, match="is not a bundle"):
        open_bundle(tmp_path)


def test_a_run_folder_opens_its_newest_bundle(parts: Recommender, tmp_path: Path) -> None:
    versions = [bundle.write(tmp_path / "bundles", parts, {"name": str(i)}) for i in range(3)]
    (tmp_path / "bundles" / ".draft-left-by-a-crash").mkdir()
    assert versions == sorted(versions)
    assert open_bundle(tmp_path).manifest["name"] == "2"
    assert open_bundle(tmp_path / "bundles" / versions[0]).manifest["name"] == "0"


def test_nothing_half_written_is_left(parts: Recommender, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a/b"):
        bundle.write(tmp_path, parts, {}, {"a/b": b"no such folder"})
    assert list(tmp_path.iterdir()) == []


def test_parts_that_do_not_fit_are_refused(parts: Recommender, tmp_path: Path) -> None:
    fewer = dataclasses.replace(parts, user_vectors=parts.user_vectors[:-1])
    with pytest.raises(ValueError, match="user_vectors needs 30 rows, got 29"):
        bundle.write(tmp_path, fewer, {})
    narrow = dataclasses.replace(parts, user_vectors=parts.user_vectors[:, :-1])
    with pytest.raises(ValueError, match="need one width, got 15 and 16"):
        bundle.write(tmp_path, narrow, {})
    assert list(tmp_path.iterdir()) == []


def test_text_ids_and_no_reranker(tmp_path: Path) -> None:
    opened = open_bundle(write_bundle(tmp_path, users=20, items=40, text_ids=True, reranked=False))
    assert opened.recommender.users.ids[0].as_py() == "id-0001000"
    assert opened.recommender.reranker is None
    assert not opened.recommender.reranks


def test_extra_files_are_kept_and_checked(parts: Recommender, tmp_path: Path) -> None:
    version = bundle.write(tmp_path, parts, {}, {"extra.json": b'{"a": 1}'})
    folder = open_bundle(tmp_path / version).folder
    assert (folder / "extra.json").read_bytes() == b'{"a": 1}'
    (folder / "extra.json").write_bytes(b'{"a": 2}')
    with pytest.raises(BundleError, match=r"extra\.json: expected sha256"):
        open_bundle(folder)


def test_the_manifest_holds_no_secrets() -> None:
    config = {
        "storage": "s3://key:hidden@bucket/runs?secret_key=hidden&region=eu",
        "tracking": {"api_key": "hidden", "uri": "https://user:hidden@host"},
        "metrics": [float("nan"), np.float32(0.5), np.arange(2)],
        "path": Path("/data"),
    }
    found = plain(config)
    assert "hidden" not in json.dumps(found)
    assert found["storage"] == "s3://***@bucket/runs?secret_key=***&region=eu"
    assert found["metrics"] == [None, 0.5, [0, 1]]
    assert found["path"] == "/data"


def test_a_uri_is_written_whole_and_opened(parts: Recommender, tmp_path: Path) -> None:
    version = bundle.write(f"file://{tmp_path}/bundles", parts, {"name": "by-uri"})
    opened = open_bundle(f"file://{tmp_path}")
    assert (opened.version, opened.manifest["name"]) == (version, "by-uri")


def test_a_uri_that_is_no_local_folder_is_copied_first(
    parts: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = "memory://runs/cached"
    versions = [bundle.write(f"{run}/bundles", parts, {"name": str(i)}) for i in range(2)]
    pinned, found = bundle.check(run)
    assert (pinned, found["name"]) == (f"{run}/bundles/{versions[1]}", "1")
    opened = open_bundle(run)
    assert opened.version == versions[1]
    assert tmp_path in opened.folder.parents
    # A copy that is damaged is made again.
    [copy] = [path for path in copies.cache().iterdir() if copies.is_copy(path)]
    whole = (copy / "vectors.safetensors").read_bytes()
    (copy / "vectors.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert open_bundle(run).version == versions[1]
    assert (copy / "vectors.safetensors").read_bytes() == whole
    with pytest.raises(BundleError, match="no bundle at memory://runs/absent"):
        open_bundle("memory://runs/absent")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "encodes users to 0 columns and 0 categories, where the bundle has 2 and 3"),
        ({"age": {"kind": "number"}}, "holds no encoder of users"),
        ([], "holds no encoder of users"),
    ],
)
def test_an_encoder_that_is_none_of_its_users_is_refused(
    parts: Recommender, columns: Any, message: str, tmp_path: Path
) -> None:
    encoders = json.dumps({"users": columns, "items": {}}).encode()
    version = bundle.write(tmp_path, parts, {}, {bundle.ENCODERS: encoders})
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path / version)

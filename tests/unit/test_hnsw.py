"""Without hnswlib: exact search answers, bundles open, and the log says so."""

import dataclasses
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundles import make_recommender
from train.bundle import bundle
from train.bundle.bundle import Bundle, open_bundle
from train.core.ragged import Array, Ragged
from train.index import build, hnsw
from train.index.base import IndexSettings
from train.index.build import build_vector_index, check_kind, sweep
from train.index.vector_index import VectorIndex
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request

HNSW = pytest.mark.skipif(hnsw.library() is None, reason="needs hnswlib; see README: Install")


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    """Let each test be the first of its process to miss hnswlib."""
    hnsw.warn_of_exact_search.cache_clear()
    yield
    hnsw.warn_of_exact_search.cache_clear()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import hnswlib` fail, as it does where it is not installed."""
    monkeypatch.setitem(sys.modules, "hnswlib", None)


def _vectors(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


def _build(kind: Any) -> VectorIndex:
    catalogue = np.arange(2_000) % 3 > 0
    return build_vector_index(IndexSettings(kind=kind), _vectors(2_000), catalogue)


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "train.index.hnsw"]


def _with_index(parts: Recommender, index: VectorIndex, folder: Path) -> Path:
    whole = dataclasses.replace(parts, index=index)
    return folder / bundle.write(folder, whole, {"name": "planted", "config": {}})


def _answers(opened: Bundle) -> list[list[Any]]:
    users = [*opened.recommender.users.external(np.arange(20)), None]
    found = recommend(opened.recommender, [Request(user_id=user, k=10) for user in users])
    return [[item["item_id"] for item in one["items"]] for one in found]


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("kind", ["auto", "exact"])
def test_exact_search_is_built_instead(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "EXACT_ITEMS", 1_000)
    with caplog.at_level(logging.WARNING):
        indices = [_build(kind), _build(kind)]
    assert [index.graph for index in indices] == [None, None]
    report = indices[0].report
    assert report["used"] == "exact"
    assert report["exact_us"] > 0
    assert [report[name] for name in ("recall", "ef", "hnsw_us")] == [None, None, None]
    # Once for both, where a graph would have answered.
    assert len(_said(caplog)) == (kind == "auto")
    assert all("apt-get install g++ python3-dev" in line for line in _said(caplog))


@pytest.mark.usefixtures("without")
def test_hnsw_is_refused_with_what_to_install() -> None:
    message = r"'hnsw' needs hnswlib, .* apt-get install g\+\+ python3-dev"
    for call in (lambda: _build("hnsw"), lambda: check_kind(IndexSettings(kind="hnsw"))):
        with pytest.raises(ValueError, match=message):
            call()
    check_kind(IndexSettings(kind="auto"))


@HNSW
def test_it_finds_what_an_index_with_a_graph_finds_exactly(
    request: pytest.FixtureRequest,
) -> None:
    there = _build("exact")
    assert there.graph is not None
    request.getfixturevalue("without")
    missing = _build("exact")
    for ours, theirs in zip(
        missing.search(_vectors(9, seed=1), 30), there.search(_vectors(9, seed=1), 30), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@HNSW
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.02])
def test_a_filter_costs_no_recall(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.index.vector_index.EXACT_ITEMS", 200)
    vectors, queries = _vectors(8_000), _vectors(50, seed=1)
    settings = IndexSettings(kind="hnsw", recall=0.95, recall_k=20)
    whole = build_vector_index(settings, vectors, np.ones(8_000, bool), 0, queries)
    # Those that are kept are the farthest from the queries' mean: no graph's first neighbours.
    far = np.argsort(vectors @ queries.mean(axis=0))[: int(share * 8_000)]
    kept = np.sort(far).astype(np.int32)
    some = whole.within(kept)
    assert isinstance(some, VectorIndex) == (len(kept) > 200)
    seen = Ragged.from_rows([[int(kept[row]), 7] for row in range(50)])
    items, scores = some.search(queries, 20, seen)
    best = VectorIndex(vectors, kept, None, {"used": "exact"}).search(queries, 20, seen)
    assert np.isin(items, kept).all()
    assert (scores >= best[1][:, -1:] - 1e-6).mean() >= 0.95
    again = [some.search(queries[[row]], 20, seen.take(np.array([row])))[0] for row in range(50)]
    np.testing.assert_array_equal(np.concatenate(again), items)


@pytest.mark.usefixtures("without")
def test_a_sweep_without_a_graph_is_exact_search_alone() -> None:
    assert [row["ef"] for row in sweep(_build("auto"), _vectors(9), 10)] == [0.0]


@HNSW
def test_a_bundle_with_a_graph_opens_without_hnswlib_and_says_so(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make_recommender(users=30, items=400, trees=5)
    settings = IndexSettings(kind="hnsw", recall=1.0)
    index = build_vector_index(settings, parts.item_vectors, parts.catalogue)
    place = _with_index(parts, index, tmp_path)
    before = _answers(open_bundle(place))
    request.getfixturevalue("without")
    with caplog.at_level(logging.WARNING):
        opened = [open_bundle(place), open_bundle(place)]
    assert [one.recommender.index.report["used"] for one in opened] == ["exact", "exact"]
    assert opened[0].manifest["index"]["used"] == "hnsw"
    (line,) = _said(caplog)
    assert "exact search instead of the graph that the bundle holds" in line
    assert _answers(opened[0]) == before


@HNSW
def test_a_damaged_graph_is_found_without_hnswlib_too(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    index = _build("hnsw")
    index.save(tmp_path)
    request.getfixturevalue("without")
    fewer = np.arange(2_000) % 3 > 1
    with pytest.raises(ValueError, match="is not an HNSW index of 666 vectors of width 16"):
        VectorIndex.load(tmp_path, index.vectors, fewer, index.report)


def test_a_bundle_without_a_graph_opens_everywhere(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make_recommender(users=30, items=400, trees=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "hnswlib", None)
        place = _with_index(
            parts,
            build_vector_index(IndexSettings(), parts.item_vectors, parts.catalogue),
            tmp_path,
        )
    assert not (place / "index.hnsw").exists()
    caplog.clear()
    hnsw.warn_of_exact_search.cache_clear()
    with caplog.at_level(logging.WARNING):
        here = open_bundle(place)
        request.getfixturevalue("without")
        elsewhere = open_bundle(place)
    assert _said(caplog) == []
    assert _answers(here) == _answers(elsewhere)
    # It is written again as it is.
    assert isinstance(elsewhere.recommender.index, VectorIndex)
    again = open_bundle(
        _with_index(here.recommender, elsewhere.recommender.index, tmp_path / "again")
    )
    assert again.recommender.index.report == elsewhere.recommender.index.report
    assert not (again.folder / "index.hnsw").exists()

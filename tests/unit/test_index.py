"""The index against exact search, with filters, saved, damaged and foreign."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.core.ragged import Array, Ragged
from train.index import build, hnsw
from train.index.base import IndexSettings
from train.index.build import build_vector_index, sweep
from train.index.vector_index import VectorIndex, _power_of_two

WIDTH = 8

KINDS = ["exact", pytest.param("hnsw", marks=pytest.mark.hnsw)]


def _vectors(count: int, seed: int = 0, width: int = WIDTH) -> Array:
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.2, 3.0, (count, 1))
    return (rng.standard_normal((count, width)) * lengths).astype(np.float32)


def _build(kind: str, vectors: Array, catalogue: Array | None = None, **other: Any) -> VectorIndex:
    catalogue = np.ones(len(vectors), dtype=bool) if catalogue is None else catalogue
    return build_vector_index(IndexSettings(kind=kind, recall_k=10, **other), vectors, catalogue)  # type: ignore[arg-type]


def _expected(
    vectors: Array, catalogue: Array, query: Array, k: int, excluded: set[int]
) -> tuple[list[int], Array]:
    allowed = [i for i in np.flatnonzero(catalogue).tolist() if i not in excluded]
    scores = vectors[allowed].astype(np.float64) @ query.astype(np.float64)
    order = np.argsort(-scores, kind="stable")[:k]
    return [allowed[place] for place in order], scores[order]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40)
def test_always_k_and_never_an_excluded_item(kind: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    catalogue = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    catalogue[data.draw(st.integers(0, count - 1))] = True
    vectors = _vectors(count)
    index = _build(kind, vectors, catalogue, recall=0.5)
    items = st.integers(0, count - 1)
    excluded = data.draw(st.lists(st.lists(items, max_size=70), min_size=3, max_size=3))
    k = data.draw(st.integers(1, 80))
    queries = _vectors(3, seed=1)
    found, scores = index.search(queries, k, Ragged.from_rows(excluded))
    assert found.shape == scores.shape == (3, k)
    assert found.dtype == np.int32 and scores.dtype == np.float32
    for row in range(3):
        expected, values = _expected(vectors, catalogue, queries[row], k, set(excluded[row]))
        real = found[row][found[row] >= 0]
        assert len(real) == len(expected)
        assert len(set(real.tolist())) == len(real)
        assert not set(real.tolist()) & set(excluded[row])
        assert catalogue[real].all()
        assert (found[row][len(real) :] == -1).all()
        assert (scores[row][len(real) :] == -np.inf).all()
        assert (np.diff(scores[row][: len(real)]) <= 0).all()
        if kind == "exact":
            np.testing.assert_allclose(scores[row][: len(real)], values, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(hnsw.library() is None, reason="needs hnswlib; see README: Install")
def test_hnsw_finds_nothing_that_is_excluded() -> None:
    """The nearest items of each query are excluded, and the next ones are found in their place."""
    # So broad a search of so few items misses none, whatever the order of its sums.
    index = _build("hnsw", _vectors(2_000)).at(1_000)
    queries = _vectors(16, seed=1)
    nearest, _ = index.search(queries, 30)
    # Not the first alone, and not as many for each.
    excluded = [row[: 2 * place : 2].tolist() for place, row in enumerate(nearest)]
    items, scores = index.search(queries, 10, Ragged.from_rows(excluded))
    for row, banned, best in zip(items, excluded, nearest, strict=True):
        assert not set(row.tolist()) & set(banned)
        assert row.tolist() == [item for item in best.tolist() if item not in banned][:10]
    assert (scores > -np.inf).all()


def test_exact_breaks_ties_by_item() -> None:
    vectors = np.repeat(_vectors(5), 4, axis=0)
    found, scores = _build("exact", vectors).search(_vectors(2, seed=1), 20)
    for row, values in zip(found, scores, strict=True):
        for value in np.unique(values):
            assert (np.diff(row[values == value]) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_does_not_depend_on_its_batch(kind: str) -> None:
    index = _build(kind, _vectors(2_000, width=64))
    queries = _vectors(16, seed=1, width=64)
    excluded = [list(range(7 * row)) for row in range(16)]
    together = index.search(queries, 20, Ragged.from_rows(excluded))
    for row in range(16):
        alone = index.search(queries[row : row + 1], 20, Ragged.from_rows(excluded[row : row + 1]))
        np.testing.assert_array_equal(together[0][row], alone[0][0])
        np.testing.assert_array_equal(together[1][row], alone[1][0])


@pytest.mark.hnsw
def test_hnsw_reaches_the_recall_it_reports() -> None:
    vectors, queries = _vectors(3_000, width=32), _vectors(200, seed=1, width=32)
    catalogue = np.random.default_rng(2).random(3_000) < 0.9
    built = build_vector_index(IndexSettings(kind="hnsw"), vectors, catalogue, queries=queries)
    exact = VectorIndex(vectors, built.members, built.graph, {"used": "exact"})
    found, wanted = (which.search(queries, 100)[0] for which in (built, exact))
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(found, wanted, strict=True)])
    assert built.report["recall"] >= 0.99
    assert recall == pytest.approx(built.report["recall"], abs=1e-4)
    assert built.report["used"] == "hnsw"


@pytest.mark.hnsw
def test_hnsw_that_cannot_reach_the_recall_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((3_000, 256)).astype(np.float32)
    weak = IndexSettings(kind="hnsw", m=2, ef_construction=8, recall=1.0)
    with pytest.raises(ValueError, match=r"recall@100 0\.\d+ at ef \d+, below 1\.0: raise m"):
        build_vector_index(weak, vectors, np.ones(3_000, dtype=bool))
    monkeypatch.setattr(build, "EXACT_ITEMS", 2_999)
    report = build_vector_index(
        weak.model_copy(update={"kind": "auto"}), vectors, np.ones(3_000, dtype=bool)
    ).report
    assert report["used"] == "exact" and report["recall"] < 1.0


@pytest.mark.hnsw
def test_a_sweep_rises_to_the_recall_of_exact_search() -> None:
    index = _build("exact", _vectors(3_000, width=32))
    rows = sweep(index, _vectors(200, seed=1, width=32), 10)
    efs, recalls = [row["ef"] for row in rows[:-1]], [row["recall"] for row in rows]
    assert efs == sorted(efs)
    assert efs[0] == 16
    assert recalls[0] < 0.9 < recalls[-2] <= recalls[-1] == 1.0
    assert all(row["us"] > 0 for row in rows)
    # A search for 100 looks at 128 at the least.
    assert sweep(index, _vectors(20, seed=1, width=32), 100)[0]["ef"] == 128


def test_a_sweep_of_few_items_is_exact_search_alone() -> None:
    assert [row["ef"] for row in sweep(_build("exact", _vectors(20)), _vectors(3), 50)] == [0.0]


@pytest.mark.hnsw
def test_auto_goes_by_the_size_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "EXACT_ITEMS", 500)
    monkeypatch.setattr(build, "EF_ITEMS", 1)
    small, large = (_build("auto", _vectors(count)) for count in (500, 501))
    assert small.report["used"] == "exact"
    assert large.report["used"] == "hnsw" and large.report["recall"] >= 0.99


@pytest.mark.hnsw
def test_auto_searches_exactly_where_a_graph_would_look_at_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = _vectors(1_000)
    monkeypatch.setattr(build, "EXACT_ITEMS", 500)
    ef = _build("hnsw", vectors).report["ef"]
    used = []
    # Half an item to each side, as a quotient times its divisor may round below the whole.
    for items in (1_000.5 / ef, 999.5 / ef):
        monkeypatch.setattr(build, "EF_ITEMS", items)
        used.append(_build("auto", vectors).report)
    assert [report["used"] for report in used] == ["exact", "hnsw"]
    # What the graph would have needed is told either way.
    assert [report["ef"] for report in used] == [ef, ef]
    assert all(report["recall"] >= 0.99 for report in used)


@pytest.mark.hnsw
def test_recall_is_measured_with_users_at_the_number_that_is_found() -> None:
    vectors, users = _vectors(1_000), _vectors(300, seed=1)
    settings = IndexSettings(kind="hnsw", recall=0.9, m=4, ef_construction=16, sample=300)
    everything = np.ones(len(vectors), bool)
    built = build.build_index(settings, vectors, everything, queries=users, count=50)
    assert isinstance(built, VectorIndex) and built.report["recall_k"] == 50
    found, wanted = (which.search(users, 50)[0] for which in (built, built.exact()))
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(found, wanted, strict=True)])
    assert built.report["recall"] == pytest.approx(recall, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_finds_the_same(kind: str, tmp_path: Path) -> None:
    vectors, catalogue = _vectors(400), np.arange(400) % 3 > 0
    index = _build(kind, vectors, catalogue)
    index.save(tmp_path)
    loaded = VectorIndex.load(tmp_path, vectors, catalogue, index.report)
    queries = _vectors(5, seed=1)
    for ours, theirs in zip(index.search(queries, 30), loaded.search(queries, 30), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def _saved(tmp_path: Path) -> tuple[Path, Array, Array, Any]:
    vectors, catalogue = _vectors(50), np.ones(50, dtype=bool)
    index = _build("hnsw", vectors, catalogue)
    index.save(tmp_path)
    return tmp_path / "index.hnsw", vectors, catalogue, index.report


@pytest.mark.hnsw
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an HNSW index: it ends after 0 bytes"),
        (b"not an index at all, but long enough to be read as one header", "its header says"),
    ],
)
def test_foreign_file(tmp_path: Path, content: bytes, message: str) -> None:
    path, vectors, catalogue, report = _saved(tmp_path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        VectorIndex.load(path.parent, vectors, catalogue, report)


@pytest.mark.hnsw
def test_cut_file(tmp_path: Path) -> None:
    path, vectors, catalogue, report = _saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not an HNSW index, or is damaged"):
        VectorIndex.load(path.parent, vectors, catalogue, report)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the HNSW index"):
        VectorIndex.load(tmp_path, _vectors(3), np.ones(3, dtype=bool), {"used": "hnsw"})


@pytest.mark.hnsw
def test_index_of_other_vectors(tmp_path: Path) -> None:
    path, vectors, catalogue, report = _saved(tmp_path)
    with pytest.raises(ValueError, match="of width 9: its header says 50 of width 8"):
        VectorIndex.load(path.parent, _vectors(50, width=9), catalogue, report)
    with pytest.raises(ValueError, match="of 49 vectors"):
        VectorIndex.load(path.parent, vectors, np.arange(50) > 0, report)
    more = np.vstack([vectors, vectors[:1]])
    with pytest.raises(ValueError, match="not the catalogue's 50"):
        VectorIndex.load(path.parent, more, np.arange(51) > 0, report)


def test_empty_catalogue_and_wrong_width() -> None:
    with pytest.raises(ValueError, match="catalogue is empty: none of 4"):
        _build("exact", _vectors(4), np.zeros(4, dtype=bool))
    with pytest.raises(ValueError, match=r"vectors \[B, 8\], got k=1 and \[2, 3\]"):
        _build("exact", _vectors(4)).search(np.zeros((2, 3), np.float32), 1)
    with pytest.raises(ValueError, match="got k=0"):
        _build("exact", _vectors(4)).search(_vectors(1), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_queries(kind: str) -> None:
    found, scores = _build(kind, _vectors(30)).search(np.empty((0, WIDTH), np.float32), 5)
    assert found.shape == scores.shape == (0, 5)


@pytest.mark.parametrize("width", [3, 17, 64])
def test_equal_vectors_have_equal_scores_and_the_first_ones_are_found(width: int) -> None:
    """More of them than are fetched at once, and others that are excluded in between."""
    vectors = np.repeat(_vectors(4, width=width), 50, axis=0)[
        np.arange(200).reshape(4, 50).T.ravel()
    ]
    index, queries = _build("exact", vectors), _vectors(6, seed=1, width=width)
    excluded = [list(range(0, 40 * row, 3)) for row in range(6)]
    found, scores = index.search(queries, 20, Ragged.from_rows(excluded))
    for row, query in enumerate(queries):
        best = int((vectors[:4].astype(np.float64) @ query).argmax())
        allowed = [i for i in range(best, 200, 4) if i not in excluded[row]]
        count = min(20, len(allowed))
        assert found[row, :count].tolist() == allowed[:count]
        assert len(np.unique(scores[row, :count])) == 1


def test_a_power_of_two_is_no_less_and_the_smallest() -> None:
    least = np.arange(1, 5000)
    found = _power_of_two(least)
    assert found.tolist() == [1 << (n - 1).bit_length() for n in least.tolist()]

"""Each kind of index through its protocol alone: built, searched, scored, saved and opened."""

from pathlib import Path

import numpy as np
import pytest

from train.core.ragged import Array, Ragged
from train.index import hnsw
from train.index.base import Index, IndexSettings
from train.index.build import build_index, open_index, sweep
from train.index.pair_index import PairHead

WIDTH, HIDDEN, FACTORS = 8, 5, 3
CATALOGUE = np.arange(300) % 5 > 0
HNSW = pytest.mark.skipif(hnsw.library() is None, reason="needs hnswlib; see README: Install")
KINDS = ["exact", pytest.param("hnsw", marks=HNSW), "pairs"]


def vectors(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def head() -> PairHead:
    rng, width = np.random.default_rng(3), WIDTH - FACTORS
    shapes = {"wide.weight": (HIDDEN, width), "wide.bias": (HIDDEN,), "out.weight": (1, HIDDEN)}
    return PairHead({k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})


def build(kind: str) -> Index:
    if kind == "pairs":
        return build_index(IndexSettings(), vectors(300, 0), CATALOGUE, head())
    settings = IndexSettings(kind="hnsw" if kind == "hnsw" else "exact", recall=0.5, recall_k=10)
    return build_index(settings, vectors(300, 0), CATALOGUE)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_finds_what_was_saved(kind: str, tmp_path: Path) -> None:
    index, queries = build(kind), vectors(7, 1)
    index.save(tmp_path)
    again = open_index(tmp_path, vectors(300, 0), CATALOGUE, index.report)
    assert type(again) is type(index)
    assert again.report == index.report
    for ours, theirs in zip(index.search(queries, 9), again.search(queries, 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_score_as_a_search_says(kind: str) -> None:
    index, users, items = build(kind), vectors(7, 1), vectors(300, 0)
    excluded = Ragged.from_rows([list(range(20 * row)) for row in range(7)])
    best, scores = index.search(users, 9, excluded)
    assert CATALOGUE[best].all()
    assert not set(best[6].tolist()) & set(range(120))
    pairs = index.pair_scores(np.repeat(users, 9, axis=0), items[best.ravel()])
    # Float32 sums of some 20 products of a size up to 50 in all, in another order.
    np.testing.assert_allclose(pairs.reshape(7, 9), scores, atol=20 * 50 * 1.2e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_only_an_index_that_can_be_tuned_is_swept(kind: str) -> None:
    index = build(kind)
    assert index.tunable == (kind != "pairs")
    rows = sweep(index, vectors(7, 1), 9)
    assert [row["recall"] for row in rows[-1:]] == [1.0] * index.tunable
    efs = [ef for ef, _ in index.variants(9)]
    assert [int(row["ef"]) for row in rows][:-1] == efs[: max(0, len(rows) - 1)]
    assert efs[:-1] == sorted(efs[:-1])

"""An index built and measured, or opened from the folder of a bundle."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.index import hnsw
from train.index.base import EF_ITEMS, EXACT_ITEMS, Index, IndexSettings
from train.index.pair_index import EXHAUSTIVE, PairHead, PairIndex
from train.index.vector_index import MAX_EF, VectorIndex, catalogue_members

# Items that are found for a query, where nothing says how many candidates there will be.
RECALL_K = 100
# A sweep ends at this recall: further breadth buys time only.
ENOUGH = 0.999


def check_kind(settings: IndexSettings) -> None:
    """Check that the library of the search is installed.

    Raises:
        ValueError: `kind` is `hnsw`, and hnswlib is not.
    """
    if settings.kind == "hnsw" and hnsw.library() is None:
        raise ValueError(
            f"index.kind = 'hnsw' needs hnswlib, which is not installed: {hnsw.INSTALL}; or set "
            "index.kind to auto or exact"
        )


def build_index(
    settings: IndexSettings,
    vectors: Array,
    catalogue: Array,
    head: PairHead | None = None,
    seed: int = 0,
    queries: Array | None = None,
    count: int = RECALL_K,
) -> Index:
    """Build the index that suits the scores of the vectors.

    Args:
        settings: of a search by inner products.
        vectors: of items, float32 `[I, d]`.
        catalogue: which items may be found, bool `[I]`.
        head: layers that score a pair of vectors; None where that is their inner product.
        seed: of the graph's levels and of the sample of queries.
        queries: vectors of users to measure on, float32 `[Q, d]`; None for the items' own.
        count: items that are found for a query, whose recall is measured where the settings name no
            other number.

    Raises:
        ValueError: as `build_vector_index`.
    """
    if head is not None:
        return PairIndex.build(vectors, catalogue, head)
    if settings.recall_k is None:
        settings = settings.model_copy(update={"recall_k": count})
    return build_vector_index(settings, vectors, catalogue, seed, queries)


def open_index(folder: Path, vectors: Array, catalogue: Array, report: Mapping[str, Any]) -> Index:
    """Open the index that `save` wrote into a folder.

    Args:
        folder: of the bundle.
        vectors: of items, float32 `[I, d]`, as when it was built.
        catalogue: which items may be found, bool `[I]`, as then.
        report: of the index that was saved.

    Raises:
        ValueError: its file is missing, corrupt, or of other vectors.
    """
    if report.get("used") == EXHAUSTIVE:
        return PairIndex.load(folder, vectors, catalogue)
    return VectorIndex.load(folder, vectors, catalogue, report)


def build_vector_index(
    settings: IndexSettings,
    vectors: Array,
    catalogue: Array,
    seed: int = 0,
    queries: Array | None = None,
) -> VectorIndex:
    """Build an index; of a large catalogue HNSW, its `ef` raised until its recall is reached.

    Args:
        settings: of the graph, and of the recall that it has to reach.
        vectors: float32 `[I, d]`.
        catalogue: which items may be found, bool `[I]`.
        seed: of the graph's levels and of the sample of queries.
        queries: vectors of users to measure on, float32 `[Q, d]`; items' own are easier.

    Raises:
        ValueError: the catalogue is empty, the shapes do not fit, or `kind` is `hnsw` and its
            recall is out of reach or hnswlib is not installed.
    """
    check_kind(settings)
    members = catalogue_members(vectors, catalogue)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    graph = hnsw.link(
        vectors[members], members, m=settings.m, breadth=settings.ef_construction, seed=seed
    )
    if graph is None and settings.kind == "auto" and len(members) > EXACT_ITEMS:
        hnsw.warn_of_exact_search("HNSW for a large catalogue")
    index = VectorIndex(vectors, members, graph, {})
    sample = _sample(vectors[members] if queries is None else queries, settings.sample, seed)
    return VectorIndex(vectors, members, graph, _measure(settings, index, sample))


def sweep(index: Index, queries: Array, k: int) -> list[dict[str, float]]:
    """Return recall@k and microseconds a query of HNSW at rising `ef`, then of exact search.

    Args:
        index: to be searched.
        queries: float32 `[Q, d]`.
        k: how many items.

    Returns:
        rows of `ef` (0 for exact search), `recall` and `us`, up to a recall of 0.999; of exact
        search alone where there is no graph, or the catalogue is too small for it to be of use;
        none where nothing can be tuned.
    """
    if not index.tunable:
        return []
    k = min(k, int(index.report["count"]))
    *approximate, (_, exact) = index.variants(k)
    worst = exact.search(queries, k)[1][:, -1:]
    rows = []
    for ef, variant in approximate:
        recall = _recall(variant, queries, k, worst)
        rows.append({"ef": float(ef), "recall": recall, "us": _microseconds(variant, queries, k)})
        if recall >= ENOUGH:
            break
    return [*rows, {"ef": 0.0, "recall": 1.0, "us": _microseconds(exact, queries, k)}]


def _sample(queries: Array, count: int, seed: int) -> Array:
    chosen = np.random.default_rng(seed).permutation(len(queries))[:count]
    return np.ascontiguousarray(queries[chosen], dtype=np.float32)


def _measure(settings: IndexSettings, index: VectorIndex, queries: Array) -> dict[str, Any]:
    """Return the report of an index; see `VectorIndex`."""
    count = len(index.members)
    k = min(settings.recall_k or RECALL_K, count)
    report = {
        "used": "exact",
        "recall": None,
        "recall_k": k,
        "ef": None,
        "hnsw_us": None,
        "exact_us": _microseconds(index.exact(), queries, min(2 * k, count)),
        "m": settings.m,
        "ef_construction": settings.ef_construction,
        "count": count,
        "width": index.vectors.shape[1],
    }
    return report if index.graph is None else report | _chosen(settings, index, queries, report)


def _chosen(
    settings: IndexSettings, index: VectorIndex, queries: Array, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the search to use, and the least `ef` of a geometric row that has the recall."""
    k, count = report["recall_k"], report["count"]
    worst = index.exact().search(queries, k)[1][:, -1:]
    for ef in _efs(k, count):
        approximate = index.at(ef)
        recall = _recall(approximate, queries, k, worst)
        if recall >= settings.recall:
            break
    if settings.kind == "hnsw" and recall < settings.recall:
        raise ValueError(
            f"HNSW reaches recall@{k} {recall:.3f} at ef {ef}, below {settings.recall}: raise m or "
            "ef_construction, or set kind to auto or exact"
        )
    microseconds = _microseconds(approximate, queries, min(2 * k, count))
    worth = settings.kind == "auto" and count > max(EXACT_ITEMS, EF_ITEMS * ef)
    graph = recall >= settings.recall and (worth or settings.kind == "hnsw")
    used = "hnsw" if graph else "exact"
    return {"used": used, "recall": recall, "ef": ef, "hnsw_us": microseconds}


def _efs(k: int, count: int) -> list[int]:
    """Return k, 1.5 k, ... up to the whole catalogue or the limit."""
    limit = max(k, min(MAX_EF, count))
    steps = int(np.ceil(np.log(limit / k) / np.log(1.5)))
    return [min(limit, int(k * 1.5**step)) for step in range(steps + 1)]


def _recall(index: Index, queries: Array, k: int, worst: Array) -> float:
    """Return recall@k by scores: the share of results as good as the k-th best, `[Q, 1]`."""
    scores = index.search(queries, k)[1]
    # Items within a millionth of it are as good: rounding alone tells their scores apart.
    return float((scores >= worst - 1e-6 * np.abs(worst)).mean())


def _microseconds(index: Index, queries: Array, k: int, batch: int = 16) -> float:
    """Return microseconds a query: the median over batches, after one to warm up."""
    seconds = []
    for start in range(0, min(len(queries), 20 * batch), batch):
        part = queries[start : start + batch]
        begun = time.perf_counter()
        index.search(part, k)
        seconds.append((time.perf_counter() - begun) / len(part))
    return round(1e6 * float(np.median(seconds[1:] or seconds)), 1)

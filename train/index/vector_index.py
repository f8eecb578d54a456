"""Stage 1's search: exact or HNSW, measured against each other when the index is built."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from train.core.ragged import Array, Ragged
from train.core.settings import Settings
from train.core.top_k import top_k
from train.index import hnsw

SPEED_UP = 1.2
MAX_EF = 10_000
MARGIN = 8
SWEEP = (16, 24, 36, 54, 81, 128, 192, 288, 432, 648, 972, 1458, 2187)
ENOUGH = 0.999


class IndexSettings(Settings):
    """How to build and search.

    Attributes:
        kind: what searches; `auto` takes HNSW where it is at least 20 % faster than exact search
            and hnswlib is installed.
        m: links of a node on each layer.
        ef_construction: breadth of the search when nodes are linked.
        recall: of HNSW against exact search, at least; `ef` is raised until it is reached.
        recall_k: the k of this recall.
        sample: queries that recall and speed are measured on.
    """

    kind: Literal["auto", "hnsw", "exact"] = "auto"
    m: int = Field(default=16, ge=2, le=128)
    ef_construction: int = Field(default=200, ge=8)
    recall: float = Field(default=0.99, gt=0, le=1)
    recall_k: int = Field(default=100, ge=1)
    sample: int = Field(default=500, ge=1)


@dataclass(frozen=True)
class VectorIndex:
    """Finds the items of the catalogue with the greatest inner products.

    Attributes:
        vectors: float32 `[I, d]`.
        members: the items of the catalogue, ascending, int32 `[M]`.
        graph: HNSW over the members, labelled by item; None where it was made or opened without
            hnswlib, and exact search alone is there.
        report: what was measured: `used` (`exact` or `hnsw`), `recall`, `recall_k`, `ef`,
            `hnsw_us` and `exact_us` (microseconds a query, in batches), `m`, `ef_construction`,
            `count`, `width`; what is of HNSW is None without a graph.
    """

    vectors: Array
    members: Array
    graph: Any
    report: Mapping[str, Any]

    @classmethod
    def build(
        cls,
        settings: IndexSettings,
        vectors: Array,
        catalogue: Array,
        seed: int = 0,
        queries: Array | None = None,
        threads: int = 1,
    ) -> "VectorIndex":
        """Build HNSW, raise `ef` until its recall is reached, and pick what searches.

        Args:
            settings: how.
            vectors: float32 `[I, d]`.
            catalogue: which items may be found, bool `[I]`.
            seed: of the graph's levels and of the sample of queries.
            queries: vectors to measure on, float32 `[Q, d]`, best of users; by default items'.
            threads: that link nodes; above 1 the graph differs from run to run.

        Raises:
            ValueError: the catalogue is empty, the shapes do not fit, or `kind` is `hnsw` and its
                recall is out of reach or hnswlib is not installed.
        """
        check_kind(settings)
        members = _members(vectors, catalogue)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        graph = hnsw.link(
            vectors[members],
            members,
            m=settings.m,
            breadth=settings.ef_construction,
            seed=seed,
            threads=threads,
        )
        if graph is None and settings.kind == "auto":
            hnsw.warn_of_exact_search("HNSW where that is faster")
        index = cls(vectors, members, graph, {})
        asked = _sample(vectors[members] if queries is None else queries, settings.sample, seed)
        return cls(vectors, members, graph, _measure(settings, index, asked))

    def search(self, vectors: Array, k: int, exclude: Ragged | None = None) -> tuple[Array, Array]:
        """Return the `k` best items of every query: always k, while the catalogue has them.

        The scores of a query do not depend on what else is in its batch.

        Args:
            vectors: float32 `[B, d]`.
            k: how many.
            exclude: `B` rows of items that are not to be found.

        Returns:
            items int32 `[B, k]`, best first, equal ones by item, -1 after the last; and their
            scores, float32 `[B, k]`, -inf after the last.

        Raises:
            ValueError: `k` is below 1 or the vectors have another width.
        """
        if k < 1 or vectors.ndim != 2 or vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"search needs k >= 1 and vectors [B, {self.vectors.shape[1]}], "
                f"got k={k} and {list(vectors.shape)}"
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        exclude = Ragged.empty(len(vectors)) if exclude is None else exclude
        if self.report["used"] == "exact":
            return self._exact(vectors, k, exclude)
        return self._approximate(vectors, k, exclude)

    @cached_property
    def _hidden(self) -> Array:
        return np.setdiff1d(np.arange(len(self.vectors)), self.members)

    def _exact(self, vectors: Array, k: int, exclude: Ragged) -> tuple[Array, Array]:
        scores = vectors @ self.vectors.T
        scores[exclude.rows, exclude.values] = -np.inf
        scores[:, self._hidden] = -np.inf
        items, found = top_k(scores, k + MARGIN)
        best = self._ordered(vectors, np.where(found > -np.inf, items, -1), k)
        for row in self._undecided(vectors, found, best[1]):
            own = np.setdiff1d(self.members, exclude.take(np.array([row])).values)
            part = self._ordered(vectors[row : row + 1], own[None], k)
            best[0][row], best[1][row] = part[0][0], part[1][0]
        return best

    def _undecided(self, vectors: Array, found: Array, best: Array) -> Array:
        """Return the queries where an item that was not fetched may be among the k best, `[n]`.

        Args:
            vectors: of queries, `[B, d]`.
            found: what the product of matrices gave the items that were fetched, `[B, k + MARGIN]`.
            best: the scores of the k best of these, `[B, k]`.
        """
        width = self.vectors.shape[1]
        # A sum of d products is off by d eps |u| |v| at most, in whatever order it is taken
        # (Higham 2002, section 3.1), and here are two of them.
        slack = 2 * width * np.finfo(np.float32).eps * self._longest
        doubt = slack * np.linalg.norm(vectors, axis=1)
        least = found[:, -1].astype(np.float64)
        full = (found.shape[1] == best.shape[1] + MARGIN) & (least > -np.inf)
        return np.flatnonzero(full & (least + doubt >= best[:, -1]))

    @cached_property
    def _longest(self) -> float:
        return float(np.linalg.norm(self.vectors[self.members], axis=1).max())

    def _approximate(self, vectors: Array, k: int, exclude: Ragged) -> tuple[Array, Array]:
        """Fetch k and as many as are excluded, in a power of two, each of these on its own.

        So the answer to a query depends on its own exclusions alone.
        """
        wanted = _power_of_two(k + exclude.lengths)
        items = np.full((len(vectors), k), -1, dtype=np.int32)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        for count in np.unique(wanted):
            rows = np.flatnonzero(wanted == count)
            part, excluded = vectors[rows], exclude.take(rows)
            found = self._nearest(part, int(count))
            items[rows], scores[rows] = (
                self._exact(part, k, excluded)
                if found is None
                else self._ordered(part, _without(found, excluded, len(self.vectors)), k)
            )
        return items, scores

    def _nearest(self, vectors: Array, k: int) -> Array | None:
        """Return the k nearest by HNSW [B, k], None where that is slow or the graph is short."""
        if k > min(MAX_EF, len(self.members) // 2):
            return None
        self.graph.set_ef(max(int(self.report["ef"]), k))
        try:
            labels, _ = self.graph.knn_query(_widened(vectors), k=k, num_threads=1)
        except RuntimeError:
            return None
        return np.asarray(labels).astype(np.int64)

    def _ordered(self, vectors: Array, items: Array, k: int) -> tuple[Array, Array]:
        """Score `items` [B, n] (-1 for none) query by query, and return the k best."""
        items = np.sort(items, axis=1)
        if items.shape[1] < k:
            items = np.pad(items, ((0, 0), (0, k - items.shape[1])), constant_values=-1)
        # A product of matrices rounds an item by its place among the others; here equal vectors
        # have equal scores.
        scores = np.einsum("bnd,bd->bn", self.vectors[items], vectors)
        order, scores = top_k(np.where(items >= 0, scores, -np.inf).astype(np.float32), k)
        found = np.take_along_axis(items, order, axis=1)
        return np.where(scores > -np.inf, found, -1).astype(np.int32), scores

    def save(self, path: Path) -> None:
        """Write the graph, if there is one; vectors, catalogue and report are stored beside."""
        if self.graph is not None:
            self.graph.save_index(str(path))

    @classmethod
    def load(
        cls, path: Path | None, vectors: Array, catalogue: Array, report: Mapping[str, Any]
    ) -> "VectorIndex":
        """Read what `save` wrote, over the same vectors, catalogue and report.

        Without hnswlib, exact search answers whatever the report says.

        Args:
            path: of the graph; None where none was written.
            vectors: float32 `[I, d]`.
            catalogue: which items may be found, bool `[I]`.
            report: of the index that was saved.

        Raises:
            ValueError: the file is missing, corrupt, or of other vectors.
        """
        members = _members(vectors, catalogue)
        graph = None if path is None else hnsw.read(path, members, vectors.shape[1])
        report = dict(report)
        if graph is None and report["used"] != "exact":
            hnsw.warn_of_exact_search("the graph that the bundle holds")
            report["used"] = "exact"
        return cls(np.ascontiguousarray(vectors, np.float32), members, graph, report)


def check_kind(settings: IndexSettings) -> None:
    """Check that what shall search is installed.

    Raises:
        ValueError: `kind` is `hnsw`, and hnswlib is not.
    """
    if settings.kind == "hnsw" and hnsw.library() is None:
        raise ValueError(
            f"index.kind = 'hnsw' needs hnswlib, which is not installed: {hnsw.INSTALL}; or set "
            "index.kind to auto or exact"
        )


def _members(vectors: Array, catalogue: Array) -> Array:
    if vectors.ndim != 2 or catalogue.shape != (len(vectors),):
        raise ValueError(
            f"an index needs vectors [I, d] and a catalogue [I], got {list(vectors.shape)} and "
            f"{list(catalogue.shape)}"
        )
    members = np.flatnonzero(catalogue).astype(np.int32)
    if not len(members):
        raise ValueError(f"the catalogue is empty: none of {len(vectors)} items may be found")
    return members


def _widened(queries: Array) -> Array:
    return np.pad(queries, ((0, 0), (0, 1)))


def _without(items: Array, exclude: Ragged, count: int) -> Array:
    """Return items [B, n] with -1 in place of the excluded."""
    keys = np.arange(len(items))[:, None] * count + items
    return np.where(np.isin(keys, exclude.rows * count + exclude.values), -1, items)


def _sample(queries: Array, count: int, seed: int) -> Array:
    chosen = np.random.default_rng(seed).permutation(len(queries))[:count]
    return np.ascontiguousarray(queries[chosen], dtype=np.float32)


def _measure(settings: IndexSettings, index: VectorIndex, queries: Array) -> dict[str, Any]:
    """Return the report of an index; see `VectorIndex`."""
    count = len(index.members)
    k = min(settings.recall_k, count)
    exact = replace(index, report={"used": "exact"})
    report = {
        "used": "exact",
        "recall": None,
        "recall_k": k,
        "ef": None,
        "hnsw_us": None,
        "exact_us": _microseconds(exact, queries, min(2 * k, count)),
        "m": settings.m,
        "ef_construction": settings.ef_construction,
        "count": count,
        "width": index.vectors.shape[1],
    }
    return report if index.graph is None else report | _chosen(settings, index, queries, report)


def _chosen(
    settings: IndexSettings, index: VectorIndex, queries: Array, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what searches, and the least `ef` of a geometric row that has the recall."""
    k, count = report["recall_k"], report["count"]
    worst = replace(index, report={"used": "exact"}).search(queries, k)[1][:, -1:]
    for ef in _efs(k, count):
        approximate = replace(index, report={"used": "hnsw", "ef": ef})
        recall = _recall(approximate, queries, k, worst)
        if recall >= settings.recall:
            break
    if settings.kind == "hnsw" and recall < settings.recall:
        raise ValueError(
            f"HNSW reaches recall@{k} {recall:.3f} at ef {ef}, below {settings.recall}: raise m or "
            "ef_construction, or set kind to auto or exact"
        )
    microseconds = _microseconds(approximate, queries, min(2 * k, count))
    faster = recall >= settings.recall and report["exact_us"] > SPEED_UP * microseconds
    used = settings.kind if settings.kind != "auto" else "hnsw" if faster else "exact"
    return {"used": used, "recall": recall, "ef": ef, "hnsw_us": microseconds}


def sweep(index: VectorIndex, queries: Array, k: int) -> list[dict[str, float]]:
    """Return recall@k and microseconds a query of HNSW at rising `ef`, then of exact search.

    Args:
        index: what is searched.
        queries: float32 `[Q, d]`.
        k: how many items.

    Returns:
        rows of `ef` (0 for exact search), `recall` and `us`, up to a recall of 0.999; of exact
        search alone where there is no graph, or the catalogue is too small for it to be of use.
    """
    k, exact = min(k, len(index.members)), replace(index, report={"used": "exact"})
    worst = exact.search(queries, k)[1][:, -1:]
    rows = []
    # A search fetches a power of two, and looks at as many at the least.
    fetched = int(_power_of_two(np.array(k)))
    largest = 0 if index.graph is None else len(index.members) // 2
    for ef in (ef for ef in SWEEP if fetched <= ef <= largest):
        which = replace(index, report={"used": "hnsw", "ef": ef})
        recall = _recall(which, queries, k, worst)
        rows.append({"ef": float(ef), "recall": recall, "us": _microseconds(which, queries, k)})
        if recall >= ENOUGH:
            break
    return [*rows, {"ef": 0.0, "recall": 1.0, "us": _microseconds(exact, queries, k)}]


def _power_of_two(least: Array) -> Array:
    """Return the smallest power of two that is no less than each integer of 1 or more.

    Of the bits of a number: a logarithm's last bit would decide between two of them.
    """
    exponent = np.frexp(least - 0.5)[1]
    return np.left_shift(np.int64(1), exponent.astype(np.int64))


def _recall(index: VectorIndex, queries: Array, k: int, worst: Array) -> float:
    """Return the share of the k found that score as high as the k-th best, [Q, 1], does."""
    found = index.search(queries, k)[1]
    return float((found >= worst - 1e-6 * np.abs(worst)).mean())


def _efs(k: int, count: int) -> list[int]:
    """Return k, 1.5 k, ... up to the whole catalogue or the limit."""
    limit = max(k, min(MAX_EF, count))
    steps = int(np.ceil(np.log(limit / k) / np.log(1.5)))
    return [min(limit, int(k * 1.5**step)) for step in range(steps + 1)]


def _microseconds(index: VectorIndex, queries: Array, k: int, batch: int = 16) -> float:
    """Return microseconds a query: the median over batches, after one to warm up."""
    seconds = []
    for start in range(0, min(len(queries), 20 * batch), batch):
        part = queries[start : start + batch]
        begun = time.perf_counter()
        index.search(part, k)
        seconds.append((time.perf_counter() - begun) / len(part))
    return round(1e6 * float(np.median(seconds[1:] or seconds)), 1)

"""Search by inner products of vectors: exactly, or by an HNSW graph.

Shapes: I items, M of them in the catalogue, d width, B queries.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.index import hnsw
from train.index.base import EXACT_ITEMS, Index, check_search
from train.index.subset import Subset

FILE = "index.hnsw"
# A graph that looks at more nodes than these is no faster than exact search.
MAX_EF = 10_000
# Items that exact search fetches beyond k: most ties by rounding are decided among these.
MARGIN = 8
# A graph has one breadth for all threads that search it.
ONE_BREADTH = Lock()
# Values of ef to measure, each 1.5 times the one before.
EFS = (16, 24, 36, 54, 81, 128, 192, 288, 432, 648, 972, 1458, 2187)


@dataclass(frozen=True)
class VectorIndex:
    """Finds the items of the catalogue with the greatest inner products.

    Attributes:
        vectors: float32 `[I, d]`.
        members: the items of the catalogue, ascending, int32 `[M]`.
        graph: HNSW over the members, labelled by item; None where it was made or opened without
            hnswlib, and exact search alone is there.
        report: measurements: `used` (`exact` or `hnsw`), `recall`, `recall_k`, `ef`, `hnsw_us`
            and `exact_us` (microseconds a query, in batches), `m`, `ef_construction`, `count`,
            `width`; those of HNSW are None without a graph.
    """

    vectors: Array
    members: Array
    graph: Any
    report: Mapping[str, Any]

    @property
    def tunable(self) -> bool:
        """Whether there are settings to choose: always, a graph can be built of any vectors."""
        return True

    def search(self, vectors: Array, k: int, exclude: Ragged | None = None) -> tuple[Array, Array]:
        """Return the `k` best items of every query; see `train.index.base.Index`.

        The scores of a query do not depend on what else is in its batch.

        Raises:
            ValueError: `k` is below 1 or the vectors have another width.
        """
        check_search(self.vectors.shape[1], vectors, k)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        exclude = Ragged.empty(len(vectors)) if exclude is None else exclude
        if self.report["used"] == "exact":
            return self._exact(vectors, k, exclude)
        return self._approximate(vectors, k, exclude)

    def pair_scores(self, users: Array, items: Array) -> Array:
        """Return the inner product of each row of users `[P, d]` and items `[P, d]`, `[P]`."""
        products: Array = np.einsum("pd,pd->p", users, items)
        return products

    def exact(self) -> "VectorIndex":
        """Return the same index, searched exactly."""
        return replace(self, report={"used": "exact"})

    def at(self, ef: int) -> "VectorIndex":
        """Return the same index, searched by its graph with this breadth."""
        return replace(self, report={"used": "hnsw", "ef": ef})

    def variants(self, k: int) -> list[tuple[int, "VectorIndex"]]:
        """Return the index at each rising `ef` of use for `k` items, then searched exactly."""
        # A search fetches a power of two, and looks at as many at the least.
        fetched = int(_power_of_two(np.array(min(k, len(self.members)))))
        largest = 0 if self.graph is None else len(self.members) // 2
        efs = [ef for ef in EFS if fetched <= ef <= largest]
        return [*((ef, self.at(ef)) for ef in efs), (0, self.exact())]

    def within(self, items: Array) -> Index:
        """Return the search over some items of the catalogue, ascending `[m]`.

        All of them are looked at, or, where they are too many, the graph's neighbours among them.
        """
        items = items.astype(np.int32)
        if self.report["used"] == "exact" or len(items) <= EXACT_ITEMS:
            members = np.arange(len(items), dtype=np.int32)
            exact = VectorIndex(self.vectors[items], members, None, {"used": "exact"})
            return Subset(self, items, exact)
        return replace(self, members=items)

    def save(self, folder: Path) -> None:
        """Write the graph, if there is one; vectors, catalogue and report are stored beside."""
        if self.graph is None:
            return
        file = folder / FILE
        self.graph.save_index(str(file))
        # It says nothing of a disk that is full.
        if file.stat().st_size != self.graph.index_file_size():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    @classmethod
    def load(
        cls, folder: Path, vectors: Array, catalogue: Array, report: Mapping[str, Any]
    ) -> "VectorIndex":
        """Read what `save` wrote, over the same vectors, catalogue and report.

        Without hnswlib, exact search answers whatever the report says.

        Args:
            folder: of the graph; one that was made without hnswlib has none.
            vectors: float32 `[I, d]`.
            catalogue: which items may be found, bool `[I]`.
            report: of the index that was saved.

        Raises:
            ValueError: the file is missing, corrupt, or of other vectors.
        """
        members = catalogue_members(vectors, catalogue)
        report, path = dict(report), folder / FILE
        graph = None
        if report["used"] == "hnsw":
            graph = hnsw.read(path, members, vectors.shape[1])
        elif path.exists():
            graph = hnsw.later(path, members, vectors.shape[1])
        if graph is None and report["used"] != "exact":
            hnsw.warn_of_exact_search("the graph that the bundle holds")
            report["used"] = "exact"
        return cls(np.ascontiguousarray(vectors, np.float32), members, graph, report)

    @cached_property
    def _outside(self) -> Array:
        """Items that are not in the catalogue, `[I - M]`."""
        return np.setdiff1d(np.arange(len(self.vectors)), self.members)

    @cached_property
    def _longest(self) -> float:
        """Length of the catalogue's longest vector."""
        return float(np.linalg.norm(self.vectors[self.members], axis=1).max())

    def _exact(self, vectors: Array, k: int, exclude: Ragged) -> tuple[Array, Array]:
        """Fetch k and a margin by one product of matrices, and order these query by query."""
        scores = vectors @ self.vectors.T
        scores[exclude.rows, exclude.values] = -np.inf
        scores[:, self._outside] = -np.inf
        items, products = top_k(scores, k + MARGIN)
        best = self._ordered(vectors, np.where(products > -np.inf, items, -1), k)
        for row in self._undecided(vectors, products, best[1]):
            allowed = np.setdiff1d(self.members, exclude.take(np.array([row])).values)
            one = self._ordered(vectors[row : row + 1], allowed[None], k)
            best[0][row], best[1][row] = one[0][0], one[1][0]
        return best

    def _undecided(self, vectors: Array, products: Array, best: Array) -> Array:
        """Return the queries where an item that was not fetched may be among the k best, `[n]`.

        Args:
            vectors: of queries, `[B, d]`.
            products: scores of the fetched items by the product of matrices, `[B, k + MARGIN]`.
            best: the scores of the k best of these, `[B, k]`.
        """
        width = self.vectors.shape[1]
        # A sum of d products is off by d eps |u| |v| at most, in whatever order it is taken
        # (Higham 2002, section 3.1), and here are two of them.
        slack = 2 * width * np.finfo(np.float32).eps * self._longest
        doubt = slack * np.linalg.norm(vectors, axis=1)
        least = products[:, -1].astype(np.float64)
        full = (products.shape[1] == best.shape[1] + MARGIN) & (least > -np.inf)
        return np.flatnonzero(full & (least + doubt >= best[:, -1]))

    def _approximate(self, vectors: Array, k: int, exclude: Ragged) -> tuple[Array, Array]:
        """Fetch k and as many as are excluded, in a power of two, each of these on its own.

        So the answer to a query depends on its own exclusions alone.
        """
        # Of some items alone so many more are fetched that as many of these are among them.
        share = len(self.members) / self.graph.get_current_count()
        counts = _power_of_two(np.ceil((k + exclude.lengths) / share))
        items = np.full((len(vectors), k), -1, dtype=np.int32)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            queries, excluded = vectors[rows], exclude.take(rows)
            nearest = self._nearest(queries, int(count))
            if nearest is None:
                items[rows], scores[rows] = self._exact(queries, k, excluded)
                continue
            nearest = _without(nearest, excluded, len(self.vectors))
            nearest[~self._inside[nearest]] = -1
            items[rows], scores[rows] = self._ordered(queries, nearest, k)
            if share == 1:
                continue
            # A graph's neighbours may all be outside: who has too few of them is searched exactly.
            for row in rows[items[rows, -1] < 0]:
                one = slice(row, row + 1)
                alone = exclude.take(np.array([row]))
                items[one], scores[one] = self._exact(vectors[one], k, alone)
        return items, scores

    @cached_property
    def _inside(self) -> Array:
        """Whether an item is in the catalogue, bool `[I]`."""
        inside = np.zeros(len(self.vectors), dtype=bool)
        inside[self.members] = True
        return inside

    def _nearest(self, vectors: Array, k: int) -> Array | None:
        """Return the k nearest by HNSW [B, k], None where that is slow or the graph is short."""
        if k > min(MAX_EF, len(self.members) // 2):
            return None
        # The graph's vectors have one more coordinate, which adds nothing to a query's product.
        queries = np.pad(vectors, ((0, 0), (0, 1)))
        try:
            with ONE_BREADTH:
                self.graph.set_ef(max(int(self.report["ef"]), k))
                labels, _ = self.graph.knn_query(queries, k=k, num_threads=1)
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
        best = np.take_along_axis(items, order, axis=1)
        return np.where(scores > -np.inf, best, -1).astype(np.int32), scores


def catalogue_members(vectors: Array, catalogue: Array) -> Array:
    """Return the items of a catalogue, ascending, int32 `[M]`.

    Args:
        vectors: of all items, `[I, d]`.
        catalogue: which of them may be found, bool `[I]`.

    Raises:
        ValueError: it is empty, or its shape is not that of the vectors.
    """
    if vectors.ndim != 2 or catalogue.shape != (len(vectors),):
        raise ValueError(
            f"an index needs vectors [I, d] and a catalogue [I], got {list(vectors.shape)} and "
            f"{list(catalogue.shape)}"
        )
    members = np.flatnonzero(catalogue).astype(np.int32)
    if not len(members):
        raise ValueError(f"the catalogue is empty: none of {len(vectors)} items may be found")
    return members


def _without(items: Array, exclude: Ragged, count: int) -> Array:
    """Return items [B, n] with -1 in place of the excluded."""
    keys = np.arange(len(items))[:, None] * count + items
    return np.where(np.isin(keys, exclude.rows * count + exclude.values), -1, items)


def _power_of_two(least: Array) -> Array:
    """Return the smallest power of two that is no less than each integer of 1 or more.

    Of the bits of a number: a logarithm's last bit would decide between two of them.
    """
    exponent = np.frexp(least - 0.5)[1]
    return np.left_shift(np.int64(1), exponent.astype(np.int64))

"""Exact search against HNSW at a recall of 0.99 for users' queries, by size of the catalogue.

Run as `python -m tests.benchmarks.index_sizes`. Users are made as towers make them: the mean of the
vectors of some items that are near each other, so that their nearest items are many and close.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from train.core.ragged import Array
from train.index import hnsw
from train.index.base import IndexSettings
from train.index.build import build_vector_index, sweep

COUNTS, WIDTHS = (10_000, 30_000, 100_000, 200_000), (32, 64)
QUERIES, K, RECALL = 320, 200, 0.99


def main() -> None:
    """Print microseconds a query of both, and their ratio."""
    if hnsw.library() is None:
        print(f"no graphs: {hnsw.INSTALL}")
        return
    for count, width, exact, graph, ef in measured():
        print(
            f"{count:>7,} items of width {width}: exact {exact:.0f} us a query, "
            f"HNSW {graph:.0f} us at ef {ef}",
            flush=True,
        )
        print(f"ratio  exact / HNSW, {count:,} items, width {width}  {exact / graph:.2f}")


def measured() -> Iterator[tuple[int, int, float, float, int]]:
    """Yield items, width, microseconds of exact search and of HNSW, its ef (0: out of reach)."""
    for count, width in product(COUNTS, WIDTHS):
        items, users = vectors(count, width)
        index = build_vector_index(
            IndexSettings(kind="hnsw", recall=0.01), items, np.ones(count, bool)
        )
        *rows, exact = sweep(index, users, K)
        reached = [row for row in rows if row["recall"] >= RECALL]
        best = reached[0] if reached else {"us": np.inf, "ef": 0}
        yield count, width, exact["us"], best["us"], int(best["ef"])


def vectors(count: int, width: int) -> tuple[Array, Array]:
    """Return vectors of items `[count, width]` in clusters, and of users, float32."""
    rng = np.random.default_rng(0)
    spectrum = (1 + np.arange(width)) ** -0.5
    centers = rng.standard_normal((200, width)) * spectrum
    items = centers[rng.integers(0, 200, count)] + rng.standard_normal((count, width)) * spectrum
    history = rng.integers(0, count, (QUERIES, 8))
    users = items[history].mean(axis=1)
    return items.astype(np.float32), users.astype(np.float32)


if __name__ == "__main__":
    main()

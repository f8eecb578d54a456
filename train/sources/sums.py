"""Candidates from dense scores of a catalogue that are sums of sparse weights.

Shapes: I items, B requests, b of them in a block.
"""

from collections.abc import Iterator

import numpy as np

from train.core.ragged import Array
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries

# Floats of dense scores in memory at once: 64 MB.
BLOCK = 2**24

Sums = Iterator[tuple[Array, Array]]
"""Rows `[b]` of the requests, and the scores of every item for these, float32 `[b, I]`."""


def in_blocks(count: int, n_items: int) -> Iterator[Array]:
    """Yield the rows of `count` requests, so many at a time that their scores fit into memory."""
    step = max(1, BLOCK // max(n_items, 1))
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def best_of_sums(sums: Sums, requests: Queries, outside: Array, count: int) -> Candidates:
    """Return the items with the greatest scores; none of score 0 is a candidate.

    Args:
        sums: of the requests, written over.
        requests: with the items that each excludes.
        outside: items that are not in the catalogue.
        count: candidates of a request.
    """
    items = np.full((len(requests.user), count), -1, dtype=np.int32)
    scores = np.full(items.shape, -np.inf, dtype=np.float32)
    for rows, every in sums:
        width = min(count, every.shape[1])
        every[:, outside] = 0
        exclude = requests.exclude.take(rows)
        every[exclude.rows, exclude.values] = 0
        np.copyto(every, -np.inf, where=every == 0)
        best, values = top_k(every, width)
        items[rows, :width] = np.where(np.isfinite(values), best, -1)
        scores[rows, :width] = values
    return Candidates(items, scores)


def picked_of_sums(sums: Sums, items: Array) -> Array:
    """Return the scores of items `[B, C]`, float32 `[B, C]`; any for -1."""
    scores = np.zeros(items.shape, dtype=np.float32)
    for rows, every in sums:
        scores[rows] = np.take_along_axis(every, items[rows].astype(np.int64) % every.shape[1], 1)
    return scores

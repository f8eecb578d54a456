"""Merging the proposals of several sources into one list of candidates.

Shapes: B requests, D proposals of a source, C candidates.
"""

from collections.abc import Sequence

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates

# Of reciprocal rank fusion: how little the first ranks stand out (Cormack et al., SIGIR 2009).
RANK_CONSTANT = 60
# Reciprocal ranks are summed in integers, so that the order of sources decides nothing.
UNIT = 2**40


def fused(proposals: Sequence[Array], count: int) -> Candidates:
    """Merge by reciprocal rank fusion: the sum of `1 / (60 + rank)` over sources.

    An item that two sources propose comes before one that a single source proposes at the same
    rank (Cormack, Clarke, Buettcher, SIGIR 2009).

    Args:
        proposals: items of each source, best first, -1 after the last, int32 `[B, D]` each; 16
            sources at most.
        count: how many candidates, C.

    Returns:
        candidates `[B, C]`, with the sums as scores and, as `proposed`, a bit a source.
    """
    rows, item, gain, bit = _flat(proposals)
    size = int(item.max(initial=0)) + 1
    keys, place = np.unique(rows * size + item, return_inverse=True)
    # Sums of integers below 2**53, which float64 holds exactly.
    total = np.bincount(place, gain, len(keys))
    bits = np.bincount(place, bit, len(keys))
    row, item = np.divmod(keys, size)
    order = np.lexsort((item, -total, row))
    row = row[order]
    column = np.arange(len(row)) - np.searchsorted(row, np.arange(len(proposals[0])))[row]
    kept = column < count
    return _table(
        (len(proposals[0]), count),
        (row[kept], column[kept]),
        item[order][kept],
        total[order][kept] / UNIT,
        bits[order][kept],
    )


def _flat(proposals: Sequence[Array]) -> tuple[Array, Array, Array, Array]:
    """Return row, item, reciprocal rank and bit of every proposal."""
    parts = []
    for number, items in enumerate(proposals):
        row, rank = np.nonzero(items >= 0)
        gain = UNIT // (RANK_CONSTANT + 1 + rank)
        parts.append((row, items[row, rank].astype(np.int64), gain, np.full(len(row), 1 << number)))
    row, item, gain, bit = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, item, gain, bit


def _table(
    shape: tuple[int, int], at: tuple[Array, Array], item: Array, score: Array, bits: Array
) -> Candidates:
    items = np.full(shape, -1, dtype=np.int32)
    scores = np.full(shape, -np.inf, dtype=np.float32)
    proposed = np.zeros(shape, dtype=np.uint16)
    items[at], scores[at], proposed[at] = item, score, bits
    return Candidates(items, scores, proposed)

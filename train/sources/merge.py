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


def fused(proposals: Sequence[Array], count: int, quotas: Sequence[int] = ()) -> Candidates:
    """Merge by reciprocal rank fusion: the sum of `1 / (60 + rank)` over sources.

    An item that two sources propose comes before one that a single source proposes at the same
    rank (Cormack, Clarke, Buettcher, SIGIR 2009). Only what a source has within its quota is
    proposed; where all of that is less than `count`, what the sources have beyond their quotas
    comes after it. So the first candidates do not depend on how many are asked for.

    Args:
        proposals: items of each source, best first, -1 after the last, int32 `[B, D]` each; 16
            sources at most.
        count: how many candidates, C.
        quotas: of each source; by default all that it has.

    Returns:
        candidates `[B, C]`, with the sums as scores, never rising, and, as `proposed`, a bit a
        source.
    """
    rows, item, gain, bit, within = _flat(proposals, quotas)
    size = int(item.max(initial=0)) + 1
    keys, place = np.unique(rows * size + item, return_inverse=True)

    def summed(values: Array, of: Array) -> Array:
        # Sums of integers below 2**53, which float64 holds exactly.
        return np.bincount(place[of], values[of], len(keys))

    beyond = summed(within, within) == 0
    total = np.where(beyond, summed(gain, ~within), summed(gain, within))
    bits = np.where(beyond, summed(bit, ~within), summed(bit, within))
    row, item = np.divmod(keys, size)
    order = np.lexsort((item, -total, beyond, row))
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


def _flat(
    proposals: Sequence[Array], quotas: Sequence[int]
) -> tuple[Array, Array, Array, Array, Array]:
    """Return row, item, reciprocal rank and bit of every proposal, and whether the quota has it."""
    parts = []
    for number, items in enumerate(proposals):
        row, rank = np.nonzero(items >= 0)
        gain = UNIT // (RANK_CONSTANT + 1 + rank)
        within = rank < (quotas[number] if quotas else items.shape[1])
        bit = np.full(len(row), 1 << number)
        parts.append((row, items[row, rank].astype(np.int64), gain, bit, within))
    row, item, gain, bit, within = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, item, gain, bit, within


def _table(
    shape: tuple[int, int], at: tuple[Array, Array], item: Array, score: Array, bits: Array
) -> Candidates:
    items = np.full(shape, -1, dtype=np.int32)
    scores = np.full(shape, -np.inf, dtype=np.float32)
    proposed = np.zeros(shape, dtype=np.uint16)
    items[at], scores[at], proposed[at] = item, score, bits
    return Candidates(items, np.minimum.accumulate(scores, axis=1), proposed)


def filled(found: Candidates, more: Candidates) -> Candidates:
    """Put further items after the last of each request's, as many as there is room for.

    Args:
        found: candidates `[B, C]`.
        more: others, none of which is among `found`, `[B, C]`; their scores count where they are
            not above the last.
    """
    width = found.items.shape[1]
    items = np.concatenate([found.items, more.items], axis=1)
    order = np.argsort(items < 0, axis=1, kind="stable")[:, :width]
    scores = np.concatenate([found.scores, more.scores], axis=1)
    scores = np.minimum.accumulate(np.take_along_axis(scores, order, axis=1), axis=1)
    if found.proposed is None:
        proposed = None
    else:
        nobody = np.zeros_like(found.proposed, shape=more.items.shape)
        proposed = np.take_along_axis(np.hstack([found.proposed, nobody]), order, axis=1)
    return Candidates(np.take_along_axis(items, order, axis=1), scores, proposed)

"""Hashes of whole columns: the same on every machine and for every order of the rows."""

from typing import Any

import numpy as np
import pyarrow as pa

from train.core.blocks import row_blocks
from train.core.ragged import Array

# Of the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Odd, so that a product with it loses nothing; 2**64 over the golden ratio.
_ODD = np.uint64(0x9E3779B97F4A7C15)


def digest(sha: Any, array: Array) -> None:
    """Add the bytes of an array `[n]` to a hash of `hashlib`, a block at a time."""
    for rows in row_blocks(len(array)):
        sha.update(np.ascontiguousarray(array[rows]))


def mixed(values: Array) -> Array:
    """Return integers `[n]` mixed to evenly spread 64-bit hashes, one to one, uint64 `[n]`."""
    bits = np.asarray(values).astype(np.uint64)
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return np.asarray(bits ^ (bits >> np.uint64(31)))


def pair_hashes(first: Array, second: Array, seed: int = 0) -> Array:
    """Return hashes of pairs of integers `[n]` and `[n]`, uint64 `[n]`; another seed, others."""
    start = mixed(np.array([seed + 1]))
    return mixed(mixed(first.astype(np.uint64) ^ start) * _ODD + second.astype(np.uint64))


def id_hashes(ids: Any) -> Array:
    """Return a hash of each id, uint64 `[n]`.

    Args:
        ids: an Arrow array, integers or strings, without nulls.
    """
    if pa.types.is_integer(ids.type):
        return mixed(ids.to_numpy(zero_copy_only=False).astype(np.int64))
    texts = ids.cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    lengths = np.diff(offsets)
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    # A polynomial in an odd number, modulo 2**64, whose coefficients are the bytes.
    powers = np.cumprod(np.full(max(int(lengths.max(initial=0)), 1), _ODD), dtype=np.uint64)
    place = np.arange(len(data)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(mixed(data) * powers[place], out=sums[1:])
    ends = offsets - offsets[0]
    return mixed(sums[ends[1:]] - sums[ends[:-1]] + lengths.astype(np.uint64))

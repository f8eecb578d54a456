"""Whole users at a time: what is sorted or compared within a user needs no more of the data."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from train.core.ragged import Array

# Rows of a block: the sorts of one take some 100 MB.
BLOCK = 2**20


def user_blocks(user: Array, size: int | None = None) -> Iterator[slice]:
    """Yield slices of rows that are ordered by user, each of whole users.

    Args:
        user: index of each row, ascending, `[N]`.
        size: rows of a slice, at least, but for the last one.
    """
    begin, size = 0, size or BLOCK
    while begin < len(user):
        end = min(begin + size, len(user))
        end = int(np.searchsorted(user, user[end - 1], side="right"))
        yield slice(begin, end)
        begin = end


def row_blocks(count: int, size: int | None = None) -> Iterator[slice]:
    """Yield slices of so many rows, `size` each but for the last one."""
    size = size or BLOCK
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))


def work_blocks(work: Array, size: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of stretches of rows whose work `[n]` is some `size` together."""
    total = np.cumsum(work)
    starts = np.searchsorted(total, np.arange(0, total.max(initial=0) + 1, size))
    yield from pairwise(np.unique([0, *starts, len(work)]).tolist())


def counted(index: Array, count: int) -> Array:
    """Return how often each integer below `count` occurs, int64 `[count]`.

    `np.bincount` makes eight bytes of each before it counts.
    """
    counts = np.zeros(count, np.int64)
    for rows in row_blocks(len(index)):
        counts += np.bincount(index[rows], minlength=count)
    return counts

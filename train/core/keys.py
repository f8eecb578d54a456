"""Sets of integers by sorting: several times as fast as numpy's own for some hundred thousand."""

import numpy as np

from train.core.ragged import Array


def distinct(keys: Array) -> Array:
    """Return the different ones of integers `[n]`, ascending, `[m]`."""
    ordered = np.sort(keys)
    new = np.ones(len(ordered), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(ordered[new])


def is_in(keys: Array, among: Array) -> Array:
    """Return whether each integer `[n]` is one of others `[m]`, bool `[n]`."""
    if not len(keys) or not len(among):
        return np.zeros(len(keys), dtype=bool)
    ordered = np.sort(among)
    place = np.searchsorted(ordered, keys).clip(max=len(ordered) - 1)
    return np.asarray(ordered[place] == keys)

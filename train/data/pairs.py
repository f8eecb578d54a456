"""Pairs of a user and an item among interactions, found in blocks of whole users."""

import numpy as np

from train.core.blocks import user_blocks
from train.core.keys import is_in
from train.core.ragged import Array
from train.core.schema import Interactions, Seen


def first_pairs(interactions: Interactions, n_items: int, among: Array | None = None) -> Array:
    """Return whether an interaction is the first of its user with its item, bool `[N]`.

    Args:
        interactions: ordered by user and time.
        n_items: I.
        among: those that are looked at, bool `[N]`; None for all.
    """
    first = np.zeros(len(interactions), dtype=bool)
    for rows in user_blocks(interactions.user):
        keys, part = interactions.part(rows).keys(n_items), first[rows]
        places = slice(None) if among is None else np.flatnonzero(among[rows])
        of_part = np.zeros(len(keys[places]), dtype=bool)
        of_part[np.unique(keys[places], return_index=True)[1]] = True
        part[places] = of_part
    return first


def known_pairs(interactions: Interactions, known: Array, n_items: int) -> Array:
    """Return whether one of the known `[N]` interactions has this pair, bool `[N]`."""
    found = np.zeros(len(interactions), dtype=bool)
    for rows in user_blocks(interactions.user):
        keys = interactions.part(rows).keys(n_items)
        found[rows] = is_in(keys, keys[known[rows]])
    return found


def hidden_pairs(interactions: Interactions, known: Array, n_items: int) -> Array:
    """Return whether a negative one of the known `[N]` interactions has this pair, bool `[N]`."""
    if interactions.role is None:
        return np.zeros(len(interactions), dtype=bool)
    return known_pairs(interactions, known & interactions.negative, n_items)


def pairs_of_window(
    interactions: Interactions, window: Array, known: Array, n_items: int, seen: Seen
) -> Array:
    """Return which interactions are the first of their pair in a window, bool `[N]`.

    Args:
        interactions: ordered by user and time.
        window: those that may count, bool `[N]`.
        known: those that histories are made of, bool `[N]`.
        n_items: I.
        seen: "only" leaves pairs out that are not known, "exclude" those that are.
    """
    counts = first_pairs(interactions, n_items, window)
    if seen != "allow":
        counts &= known_pairs(interactions, known, n_items) == (seen == "only")
    return counts

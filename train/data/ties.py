"""The order of interactions of one user at one time: by a hash of user and item, or as in the file.

A table's rows may be in any order, and often are in one that says something: sorted by item, the
last of a user's items is the one with the largest id.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.core.blocks import BLOCK, counted, work_blocks
from train.core.hashing import id_hashes, pair_hashes
from train.core.keys import distinct
from train.core.ragged import Array
from train.core.schema import Interactions, Ties
from train.data.ids import IdMap


@dataclass(frozen=True)
class Rows:
    """Interactions in the order of a table.

    Attributes:
        user: index, int32 `[N]`.
        item: index, int32 `[N]`.
        timestamp: seconds, int64 `[N]`.
        weight: float32 `[N]`; None where all are 1.
        role: int8 `[N]`, or None; see `Interactions`.
        fraction: what times add to their seconds, in any unit, int64 `[N]`; None for nothing.
    """

    user: Array
    item: Array
    timestamp: Array
    weight: Array | None = None
    role: Array | None = None
    fraction: Array | None = None

    def take(self, places: Array) -> "Rows":
        """Return the rows of positions `[M]`, in their order."""
        chosen: dict[str, Any] = {n: of[places] for n, of in vars(self).items() if of is not None}
        return replace(self, **chosen)


def ordered(rows: Rows, users: IdMap, items: IdMap, ties: Ties) -> tuple[Interactions, int]:
    """Return interactions by user and time, and how many users have several items at the last one.

    Some users are ordered after others, so that memory for it is bounded.

    Args:
        rows: interactions.
        users: whose ids are hashed, and not their indices, which change with every new id.
        items: likewise.
        ties: "hash" or "rows".
    """
    hashes = (id_hashes(users.ids), id_hashes(items.ids)) if ties == "hash" else None
    columns = {name: of for name, of in vars(rows).items() if of is not None and name != "fraction"}
    out = {name: np.empty_like(of) for name, of in columns.items()}
    begin = tied_users = 0
    for places in _by_users(rows.user, len(users)):
        part = rows.take(places)
        order, tied = _order_of(part, hashes, len(items))
        for name, column in out.items():
            column[begin : begin + len(order)] = getattr(part, name)[order]
        begin, tied_users = begin + len(order), tied_users + tied
    return Interactions.of(**out), tied_users


def _by_users(user: Array, n_users: int) -> Iterator[Array]:
    """Yield the positions of the rows of some users after those of others, ascending."""
    for low, high in work_blocks(counted(user, n_users), BLOCK):
        yield np.flatnonzero((user >= low) & (user < high))


def _order_of(rows: Rows, hashes: tuple[Array, Array] | None, n_items: int) -> tuple[Array, int]:
    """Return positions that order rows by user and time, `[N]`, and how many users' last tie."""
    fine = () if rows.fraction is None else (rows.fraction,)
    keys = (*fine, rows.timestamp, rows.user)
    order = np.lexsort(keys)
    # Whether a row is in the same moment of the same user as the one before it.
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    same = np.concatenate([[False], same])[: len(order)]
    moment = np.cumsum(~same)
    if hashes:
        tied = same | np.concatenate([same[1:], [False]])[: len(order)]
        order[tied] = _by_hash(rows, order[tied], moment[tied], hashes)
    return order, _tied_users(rows, order, moment, n_items)


def _by_hash(rows: Rows, places: Array, moment: Array, hashes: tuple[Array, Array]) -> Array:
    """Return positions, which are in the order of their moments, with each moment's by hash."""
    user, item = rows.user[places], rows.item[places]
    # A fixed seed, not the run's: runs are compared on the same histories.
    keys = pair_hashes(hashes[0][user], hashes[1][item])
    # The rows of one pair, and those of equal hashes, which are next to none, by what they hold.
    held = [of[places] for of in (rows.role, rows.weight) if of is not None]
    return np.asarray(places[np.lexsort((*held, item, keys, moment))])


def _tied_users(rows: Rows, order: Array, moment: Array, n_items: int) -> int:
    """Return how many users have several items at their last moment."""
    user = rows.user[order].astype(np.int64)
    last = moment == moment[np.searchsorted(user, user, side="right") - 1]
    pairs = distinct(user[last] * n_items + rows.item[order][last])
    return int((np.unique(pairs // max(n_items, 1), return_counts=True)[1] > 1).sum())

"""Statistics of items and users as of a moment: popularity, recency and co-occurrence."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.sparse

from train.core.blocks import counted, user_blocks, work_blocks
from train.core.keys import distinct
from train.core.ragged import Array
from train.core.schema import Interactions

DAY = 86_400
NEIGHBOURS = 50
# Products of two interactions of one user, at most: some seconds, whatever the data.
MULTIPLICATIONS = 2 * 10**8
# Products whose results are in memory at once: some 200 MB.
BLOCK = 2**23
# Added to the denominator, so that few common users say little (shrinkage).
SHRINK = 10.0


@dataclass(frozen=True)
class Statistics:
    """Counts and times of the interactions before `as_of`; no later interaction counts.

    Attributes:
        as_of: the time, seconds, int64 `[]`.
        recent_days: lengths of the recent windows `[as_of - days, as_of)`, int64 `[W]`; none where
            interactions have no times.
        item_count: interactions of each item, int64 `[I]`.
        item_recent: interactions of each item in each recent window, int64 `[W, I]`.
        item_first: time of each item's first interaction, seconds, int64 `[I]`; `as_of` for none.
        item_last: time of each item's last interaction, likewise.
        user_count: interactions of each user, int64 `[U]`.
        user_last: time of each user's last interaction, seconds, int64 `[U]`; `as_of` for none.
        neighbours: the items with the most users in common, int32 `[I, 50]`, best first.
        neighbour_weights: `c_ij / (sqrt(c_i c_j) + 10)` of these, with `c_ij` the users of both
            and `c_i` those of one, float32 `[I, 50]`; 0 where an item has fewer neighbours.
    """

    as_of: Array
    recent_days: Array
    item_count: Array
    item_recent: Array
    item_first: Array
    item_last: Array
    user_count: Array
    user_last: Array
    neighbours: Array
    neighbour_weights: Array

    @classmethod
    def from_interactions(
        cls,
        interactions: Interactions,
        n_users: int,
        n_items: int,
        as_of: int,
        recent_days: tuple[int, ...] = (7, 30),
    ) -> "Statistics":
        """Count the interactions before `as_of` (seconds); later ones may be there, unused."""
        known = interactions.take(interactions.timestamp < as_of)
        user, item, time = known.user, known.item, known.timestamp
        recent = [item[time >= as_of - days * DAY] for days in recent_days]
        neighbours, weights = _neighbours(user, item, n_users, n_items)
        return cls(
            as_of=np.array(as_of, dtype=np.int64),
            recent_days=np.array(recent_days, dtype=np.int64),
            item_count=counted(item, n_items),
            item_recent=np.array(
                [np.bincount(part, minlength=n_items) for part in recent], dtype=np.int64
            ).reshape(len(recent_days), n_items),
            item_first=_extreme(np.minimum, item, time, n_items, as_of),
            item_last=_extreme(np.maximum, item, time, n_items, as_of),
            user_count=counted(user, n_users),
            user_last=_extreme(np.maximum, user, time, n_users, as_of),
            neighbours=neighbours,
            neighbour_weights=weights,
        )

    def arrays(self) -> dict[str, Array]:
        """Return every array by its name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Statistics":
        """Rebuild from the result of `arrays`; others beside them are ignored.

        Raises:
            ValueError: an array is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"statistics need the arrays {names}; missing: {missing}")
        return cls(**{name: arrays[name] for name in names})

    @property
    def timed(self) -> bool:
        """Whether there are recent windows, and times of first and last interactions."""
        return len(self.recent_days) > 0

    def popular(self, recent: bool = False) -> Array:
        """Return all items, most popular first, int32 `[I]`.

        Args:
            recent: order by the longest recent window, equal ones by all time; else by all time.
        """
        order = np.argsort(-self.item_count, kind="stable")
        if recent and len(self.recent_days):
            window = self.item_recent[int(np.argmax(self.recent_days))]
            order = order[np.argsort(-window[order], kind="stable")]
        return order.astype(np.int32)


def _extreme(pick: Any, index: Array, time: Array, count: int, missing: int) -> Array:
    """Return the least or greatest `time` [N] of each of `count` indices, `missing` for none."""
    start = np.iinfo(np.int64).max if pick is np.minimum else np.iinfo(np.int64).min
    extreme = np.full(count, start, dtype=np.int64)
    pick.at(extreme, index, time)
    return np.where(extreme == start, missing, extreme)


def _neighbours(user: Array, item: Array, n_users: int, n_items: int) -> tuple[Array, Array]:
    """Return each item's strongest co-occurrences, int32 and float32 [I, 50].

    The products run over blocks of items, and only over each user's last interactions where there
    are many, so that memory and time are bounded whatever the data.
    """
    matrix = _matrix(user, item, n_users, n_items)
    by_item = matrix.T.tocsr()
    popularity = np.maximum(np.diff(by_item.indptr), 1).astype(np.float32)
    work = by_item @ np.diff(matrix.indptr)
    parts = [
        _strongest(by_item[low:high] @ matrix, low, popularity)
        for low, high in work_blocks(work, BLOCK)
    ]
    empty = np.empty((0, NEIGHBOURS))
    return (
        np.concatenate([empty.astype(np.int32), *(part[0] for part in parts)]),
        np.concatenate([empty.astype(np.float32), *(part[1] for part in parts)]),
    )


def _matrix(user: Array, item: Array, n_users: int, n_items: int) -> Any:
    """Return the interaction matrix, 0/1 CSR [U, I]: each user's last interactions, if many."""
    lengths = counted(user, n_users)
    limits = (1000, 500, 200, 100, 70, 50, 35, 20)
    cost = [(np.minimum(lengths, limit).astype(np.int64) ** 2).sum() for limit in limits]
    limit = next((n for n, c in zip(limits, cost, strict=True) if c <= MULTIPLICATIONS), limits[-1])
    ends, counts, columns = np.cumsum(lengths), np.zeros(n_users, np.int64), [item[:0]]
    for rows in user_blocks(user):
        of = user[rows].astype(np.int64)
        kept = ends[of] - np.arange(rows.start, rows.stop) <= limit
        of, column = np.divmod(distinct((of * n_items + item[rows])[kept]), max(n_items, 1))
        counts += np.bincount(of, minlength=n_users)
        columns.append(column.astype(np.int32))
    column, offsets = np.concatenate(columns), np.concatenate([[0], np.cumsum(counts)])
    ones = np.ones(len(column), dtype=np.float32)
    return scipy.sparse.csr_matrix((ones, column, offsets), shape=(n_users, n_items))


def _strongest(counts: Any, first: int, popularity: Array) -> tuple[Array, Array]:
    """Return the greatest weights of each row of a block of co-occurrence counts."""
    counts.sort_indices()
    rows, columns = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr)), counts.indices
    other = columns != rows + first
    rows, columns, count = rows[other], columns[other], counts.data[other]
    weight = count / (np.sqrt(popularity[rows + first] * popularity[columns]) + np.float32(SHRINK))
    # The bits of positive floats are ordered as they are: row and descending weight in one key.
    key = (rows.astype(np.uint64) << 32) | (0xFFFFFFFF - weight.view(np.uint32)).astype(np.uint64)
    order = np.argsort(key, kind="stable")
    rows, columns, weight = rows[order], columns[order], weight[order]
    starts = np.searchsorted(rows, np.arange(counts.shape[0]))
    place = np.arange(len(rows)) - starts[rows]
    kept = place < NEIGHBOURS
    neighbours = np.zeros((counts.shape[0], NEIGHBOURS), dtype=np.int32)
    weights = np.zeros((counts.shape[0], NEIGHBOURS), dtype=np.float32)
    neighbours[rows[kept], place[kept]] = columns[kept]
    weights[rows[kept], place[kept]] = weight[kept]
    return neighbours, weights

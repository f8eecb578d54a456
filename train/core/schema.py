"""A data set as three tables with canonical column names, and its interactions as flat arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from train.core.ragged import Array

Kind = Literal["category", "categories", "number", "flag", "text", "embedding"]
# What is done with items of a user's history: never recommended, recommended like others, or the
# only ones that are.
Seen = Literal["exclude", "allow", "only"]
# What orders a user's interactions of one time: a hash of user and item, or the rows of the table.
Ties = Literal["hash", "rows"]


@dataclass(frozen=True)
class Tables:
    """A data set as it was read: external ids, canonical names, one row an item and a user.

    Attributes:
        interactions: `user_id`, `item_id` (int64 or string, or a dictionary of these),
            `timestamp` (int64 seconds since 1970, or any order; all 0 where there are no times),
            `weight` (float32, or as fine as it was read, until `min_weight` was seen to); where
            times are finer than seconds, `fraction` (int64), in any unit; where there are kinds of
            events, `role` (int8): 1 for those that the test counts, 0 for other positive ones, -1
            for those that hide an item from its user.
        items: `item_id`, `title` (string, may be null), then the columns of `item_columns`.
        users: `user_id`, then the columns of `user_columns`.
        item_columns: kind of each attribute of an item. In the table a category is a string,
            categories a list of strings, a number float32 (null when missing), a flag bool, a text
            a string, an embedding a fixed-size list of float32.
        user_columns: the same for users.
        ties: what orders a user's interactions of one time.
        reading: what was read, for people: files, rows, ids, times; see `datasets.reading`.
    """

    interactions: pa.Table
    items: pa.Table
    users: pa.Table
    item_columns: Mapping[str, Kind]
    user_columns: Mapping[str, Kind]
    ties: Ties = "hash"
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Interactions:
    """Encoded interactions, ordered by user and within a user by time (16 to 21 bytes each).

    Attributes:
        user: user index, int32 `[N]`.
        item: item index, int32 `[N]`.
        timestamp: seconds, int64 `[N]`.
        weight: float32 `[N]`; where all are 1, a single 1 that is read N times.
        role: 1 for what the test counts, 0 for other positive interactions, -1 for negative ones,
            int8 `[N]`; None where all are 1.
    """

    user: Array
    item: Array
    timestamp: Array
    weight: Array
    role: Array | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def timed(self) -> bool:
        """Whether there are times: more than one."""
        return len(self) > 0 and bool(self.timestamp.min() < self.timestamp.max())

    def take(self, index: Array) -> "Interactions":
        """Return the rows of a boolean mask `[N]` or of ascending positions `[M]`.

        A mask of all rows copies none.
        """
        of_mask = index.dtype == bool
        count = int(np.count_nonzero(index)) if of_mask else len(index)
        if of_mask and count == len(self):
            return self
        once = self.weight.strides == (0,)
        weight = np.broadcast_to(self.weight[:1], count) if once else self.weight[index]
        role = None if self.role is None else self.role[index]
        return Interactions(self.user[index], self.item[index], self.timestamp[index], weight, role)

    def part(self, rows: slice) -> "Interactions":
        """Return a stretch of the rows, which copies none."""
        role = None if self.role is None else self.role[rows]
        return Interactions(
            self.user[rows], self.item[rows], self.timestamp[rows], self.weight[rows], role
        )

    @property
    def counted(self) -> Array:
        """Which interactions the test counts, bool `[N]`."""
        return self._where(1)

    @property
    def positive(self) -> Array:
        """Which interactions say that a user wanted an item, bool `[N]`."""
        return self._where(0, 1)

    @property
    def negative(self) -> Array:
        """Which interactions hide an item from the user, bool `[N]`."""
        return self._where(-1)

    def _where(self, *roles: int) -> Array:
        if self.role is None:
            return np.full(len(self), 1 in roles)
        return np.isin(self.role, roles)

    def keys(self, n_items: int) -> Array:
        """Return a number for each pair of a user and an item, int64 `[N]`."""
        return np.asarray(self.user.astype(np.int64) * n_items + self.item)

    def relative_weight(self) -> Array:
        """Return weights over their mean, float32 `[N]`.

        Raises:
            ValueError: one is negative, or all are 0.
        """
        least, mean = self.weight.min(initial=0), self.weight.mean(dtype=np.float64)
        if least < 0 or mean == 0:
            found = f"one of {least:g}" if least < 0 else "only 0"
            raise ValueError(
                f"weighted: expected weights of 0 and more, not all of them 0, found {found}; "
                "leave `weighted` out, or have another column as data.weight"
            )
        return np.asarray(self.weight / mean, dtype=np.float32)

    def summed(self, weight: Array, n_users: int, n_items: int) -> Any:
        """Return the interaction matrix: weights `[N]` summed by pair, CSR float32 `[U, I]`."""
        from scipy.sparse import csr_matrix

        pairs = weight.astype(np.float32), (self.user, self.item)
        return csr_matrix(pairs, shape=(n_users, n_items))

    @classmethod
    def ordered(
        cls, user: Array, item: Array, timestamp: Array, weight: Array, role: Array | None = None
    ) -> "Interactions":
        """Sort by user, then time, ties in the order given."""
        order = np.lexsort((timestamp, user))
        role = None if role is None else role[order].astype(np.int8)
        weights = None if (weight == 1).all() else weight[order]
        return cls.of(user[order], item[order], timestamp[order], weights, role)

    @classmethod
    def of(
        cls,
        user: Array,
        item: Array,
        timestamp: Array,
        weight: Array | None = None,
        role: Array | None = None,
    ) -> "Interactions":
        """Return rows that are in order; without weights all weigh 1."""
        if weight is None:
            weight = np.broadcast_to(np.float32(1), len(user))
        if role is not None and (role == 1).all():
            role = None
        # Copies none that is of its type.
        return cls(
            user.astype(np.int32, copy=False),
            item.astype(np.int32, copy=False),
            timestamp.astype(np.int64, copy=False),
            weight.astype(np.float32, copy=False),
            role,
        )

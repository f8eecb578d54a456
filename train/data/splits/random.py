"""The split `random`: a random part of each user's items is the test."""

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from train.core.hashing import pair_hashes
from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.splits.base import ASKED, TEST, TRAIN, VALIDATION, Split, end_of


def _whole_above_one(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"expected a share below 1 or a whole number of items, got {value:g}")
    return value


Part = Annotated[float, Field(gt=0), AfterValidator(_whole_above_one)]


class Random(Split):
    """A random part of each user's items is the test: for interactions without times.

    An item that a user interacted with several times is held out whole. Users with too few items
    for the test, the validation and one more are trained on only. Items are drawn by a hash of user
    and item, whatever the order of the rows. The cut is not in time: where there are times, others'
    later interactions and the user's own are known, so results look better than they would be. `t1`
    and `t2` are one second after the newest interaction of what comes before.

    Attributes:
        test: share of each user's items that is held out, at least one; from 1 on the number. With
            kinds of events, of items with an event that the test counts.
        validation: the same for the validation, of all items.
        draw: seed of the choice of items, and of users.
        users: share of the users who are the test, and of those who are the validation (strong
            generalization; Marlin 2004): `test` of their items are held out, and the others are
            known when they ask, and not learned from. All others' items are learned from. By
            default everybody is tested, on what is left out of what was learned from.
    """

    name: Literal["random"] = "random"
    test: Part = 0.2
    validation: Part = 0.1
    draw: int = Field(default=0, ge=0)
    users: float | None = Field(default=None, gt=0, lt=0.5)

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Draw the items of the test, and then those of the validation, user by user."""
        size = int(interactions.item.max(initial=0)) + 1
        pairs, of_row = np.unique(interactions.keys(size), return_inverse=True)
        rows = [np.bincount(of_row, of, len(pairs)) for of in _roles(interactions)]
        counted, negative, positive = (count > 0 for count in rows)
        fold = self._drawn(*np.divmod(pairs, size), counted & ~negative, positive)[of_row]
        t1, t2 = (end_of(interactions.timestamp[fold < f]) for f in (VALIDATION, TEST))
        return fold, t1, t2

    def _drawn(self, user: Array, item: Array, counted: Array, positive: Array) -> Array:
        """Return the folds of distinct pairs, ordered by user, int8 `[P]`.

        Args:
            user: indices, ascending.
            item: indices.
            counted: whether the test may count a pair; only these are held out.
            positive: whether a pair can be learned from.
        """
        start, end = (np.searchsorted(user, user, side=side) for side in ("left", "right"))
        sums = (_sums(of, start, end) for of in (counted, positive))
        place = np.empty(len(user), np.int64)
        hashes = pair_hashes(user, item, self.draw)
        place[np.lexsort((hashes, ~counted, user))] = np.arange(len(user))
        return self._folds(user, place - start, *sums)

    def _folds(self, user: Array, place: Array, count: Array, every: Array) -> Array:
        """Return the folds of pairs by their place among those of the user, int8 `[P]`.

        Args:
            user: indices, ascending.
            place: from 0 on, in the order in which they are drawn.
            count: of the user's pairs that may be held out.
            every: of the user's pairs that can be learned from.
        """
        fold = np.full(len(user), TRAIN, np.int8)
        test, validation = (_held_out(part, count) for part in (self.test, self.validation))
        if self.users is None:
            enough = (count >= test + validation) & (every > test + validation)
            fold[enough & (place < test + validation)] = VALIDATION
            fold[enough & (place < test)] = TEST
            return fold
        of_user = self._asked(user, (count >= test) & (every > test))
        for part in (VALIDATION, TEST):
            fold[of_user == part] = ASKED[part]
            fold[(of_user == part) & (place < test)] = part
        return fold

    def _asked(self, user: Array, enough: Array) -> Array:
        """Return which part asks about the user of each pair, int8 `[P]`."""
        able = np.unique(user[enough])
        drawn = able[np.argsort(pair_hashes(able, able, self.draw), kind="stable")]
        count = max(round((self.users or 0) * len(able)), 1)
        part = np.full(int(user.max(initial=0)) + 1, TRAIN, np.int8)
        part[drawn[count : 2 * count]] = VALIDATION
        part[drawn[:count]] = TEST
        return np.asarray(part[user])


def _roles(interactions: Interactions) -> tuple[Array, Array, Array]:
    return interactions.counted, interactions.negative, interactions.positive


def _sums(of: Array, start: Array, end: Array) -> Array:
    """Return the sum of each row's stretch `[start, end)` of booleans, int64 `[P]`."""
    before = np.concatenate([[0], np.cumsum(of)])
    return np.asarray(before[end] - before[start])


def _held_out(part: float, count: Array) -> Array:
    """Return how many of each `count` `[P]` items a share, or a number, is."""
    if part >= 1:
        return np.full(len(count), int(part))
    return np.maximum((part * count).astype(np.int64), 1)

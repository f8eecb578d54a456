"""Base class of the splits: folds of the interactions, and which of them count.

Towers first see fold 0. Fold 1, the validation window `[t1, t2)`, stops their training and teaches
the reranker. Both together are the data before the test, fold 2, begins.
"""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.core.schema import Interactions, Seen
from train.core.settings import Settings
from train.data.pairs import first_pairs, hidden_pairs, pairs_of_window
from train.data.splits.window import Window

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, -1
# Of negative interactions, which are in no part and yet known by then.
HIDING = {TRAIN: -2, VALIDATION: -3, TEST: -4}
# Histories of users whom the validation, or the test, asks about and nothing was learned from.
ASKED = {VALIDATION: -5, TEST: -6}
DAY = 86_400

Count = Annotated[int, Field(ge=0)]
Quantile = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Folds:
    """The fold of each interaction.

    Attributes:
        fold: 0 train, 1 validation, 2 test, -1 left out, int8 `[N]`; of negative interactions -2 in
            the time of the training, -3 in that of the validation, -4 in that of the test; -5 and
            -6 in histories of users whom the validation, or the test, alone asks about.
        t1: seconds; validation starts here.
        t2: seconds; the test starts here.
        test_users: users who are evaluated, ascending, int32.
        seen: whether items of a user's history are ground truth.
        window: what the test window has before any filter.
    """

    fold: Array
    t1: int
    t2: int
    test_users: Array
    seen: Seen = "exclude"
    window: Window = field(default_factory=Window)

    @property
    def before_validation(self) -> Array:
        """Which interactions are known when the validation begins, negative too, bool `[N]`."""
        return self._in(TRAIN, HIDING[TRAIN])

    @property
    def before_test(self) -> Array:
        """Which interactions are known when the test begins, negative too, bool `[N]`."""
        validation = VALIDATION, HIDING[VALIDATION], ASKED[VALIDATION]
        return self._in(TRAIN, HIDING[TRAIN], *validation)

    def _in(self, *parts: int) -> Array:
        # Not `np.isin`, which makes eight bytes of each.
        found = np.zeros(len(self.fold), dtype=bool)
        for part in parts:
            found |= self.fold == part
        return found

    def asked(self, part: int) -> Array:
        """Which interactions are histories of users whom a part alone asks about, bool `[N]`."""
        return np.asarray(self.fold == ASKED[part])


class Split(Settings):
    """How interactions are divided, and which of them count.

    Interactions are counted once, over the part before the test (folds 0 and 1). Users and items
    below their minimum there are left out of it, and so are unknown to the towers. In the test a
    pair counts when it is the first of the user with the item, in the test or before it, and when
    user and item are warm, that is left in the part before the test. All others get fold -1. Where
    repeats are allowed a pair counts once, whether or not the user's history has the item; where
    only repeats are ground truth, if it has. With kinds of events only those count that the test
    counts, and no item that a negative event hides from the user.

    Attributes:
        min_user_train: interactions before the test that a user needs to be trained on.
        min_item_train: the same for an item.
        warm_users: test only users who are left in training.
        warm_items: test only items that are left in training.
        min_user_history: interactions left before the test that a user needs to be tested.
        min_user_test: test pairs that count that a user needs to be tested.
    """

    min_user_train: Count = 1
    min_item_train: Count = 1
    warm_users: bool = True
    warm_items: bool = True
    min_user_history: Count = 0
    min_user_test: Count = 1

    def folds(
        self, interactions: Interactions, n_users: int, n_items: int, seen: Seen = "exclude"
    ) -> Folds:
        """Divide interactions, ordered by user and then by time.

        Raises:
            ValueError: a fold is empty; the message has the counts and names settings to change.
        """
        cut, t1, t2 = self.cut(interactions)
        cut_counts = _counts(cut)
        fold = self._filtered(interactions, cut, n_users, n_items, seen)
        users = np.unique(interactions.user[fold == TEST]).astype(np.int32)
        window = Window.of(interactions, cut < TEST, cut == TEST, fold == TEST, n_items)
        result = Folds(fold, t1, t2, users, seen, window)
        self._check(result, cut_counts)
        return result

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Return the folds before any filter, none -1, int8 `[N]`, and both cut times."""
        raise NotImplementedError

    def earlier(self, interactions: Interactions, steps: int) -> tuple["Split", Array]:
        """Return the split whose test ends where that of `steps - 1` steps back begins.

        Args:
            interactions: ordered by user and time.
            steps: back from the newest test, at least 1.

        Returns:
            the split, and which interactions there are by then, bool `[N]`.

        Raises:
            ValueError: there are no earlier cuts of such a split.
        """
        name = self.model_dump()["name"]
        raise ValueError(
            f"evaluation.folds needs a split with earlier cuts (time, last_days, leave_last), got "
            f"{name}; set folds to 1"
        )

    def _filtered(
        self, interactions: Interactions, fold: Array, n_users: int, n_items: int, seen: Seen
    ) -> Array:
        """Return the folds, -1 where an interaction does not count, int8 [N]."""
        user, item = interactions.user, interactions.item
        before = (fold < TEST) & interactions.positive
        known, learned = before.copy(), before & (fold != ASKED[TEST])
        kept = np.bincount(user[before], minlength=n_users)[user] >= self.min_user_train
        kept &= np.bincount(item[learned], minlength=n_items)[item] >= self.min_item_train
        before &= kept
        counts = (fold == TEST) & interactions.counted
        if seen == "exclude" and interactions.role is None:
            counts &= first_pairs(interactions, n_items)
        else:
            known = known if seen == "exclude" else before
            counts = pairs_of_window(interactions, counts, known, n_items, seen)
        return self._warm(interactions, fold, before, counts, (n_users, n_items))

    def _warm(
        self,
        interactions: Interactions,
        fold: Array,
        before: Array,
        counts: Array,
        size: tuple[int, int],
    ) -> Array:
        """Return the folds; of the test, those that count and are of users and items that may.

        Args:
            interactions: ordered by user and time.
            fold: before any filter, int8 `[N]`.
            before: what is left before the test, bool `[N]`.
            counts: what counts in the test, before this, bool `[N]`.
            size: U and I.
        """
        user, item, (n_users, n_items) = interactions.user, interactions.item, size
        counts &= ~hidden_pairs(interactions, fold <= TEST, n_items)
        left = before & ~hidden_pairs(interactions, fold < TEST, n_items)
        history = np.bincount(user[left], minlength=n_users)
        counts &= history[user] >= max(self.min_user_history, int(self.warm_users))
        if self.warm_items:
            learned = left & (fold != ASKED[TEST])
            counts &= np.bincount(item[learned], minlength=n_items)[item] > 0
        counts &= np.bincount(user[counts], minlength=n_users)[user] >= self.min_user_test
        out = np.where(before | counts, fold, np.int8(LEFT_OUT))
        if interactions.role is None:
            return out
        # What an asked user hid is known when the user asks.
        by_then = np.select(
            [fold == ASKED[VALIDATION], fold == ASKED[TEST]], [TRAIN, VALIDATION], fold
        )
        hiding = np.array([HIDING[part] for part in (TRAIN, VALIDATION, TEST)])
        return np.where(interactions.negative, hiding[by_then], out).astype(np.int8)

    def _check(self, folds: Folds, cut_counts: str) -> None:
        sizes = np.bincount(folds.fold[folds.fold >= 0], minlength=3)
        if sizes.all():
            return
        names = ("train", "validation", "test")
        empty = ", ".join(name for name, size in zip(names, sizes, strict=True) if not size)
        settings = ", ".join(
            f"{name}={value}" for name, value in self.model_dump(exclude={"name"}).items()
        )
        raise ValueError(
            f"empty split: no {empty} interactions are left. Of {len(folds.fold):,} interactions "
            f"the cut put {cut_counts}; the minimum counts and warm filters kept "
            f"{_counts(folds.fold)}. Move the cut or lower the minimum counts ({settings})"
        )


def end_of(times: Array) -> int:
    """Return one second after the last of some times, 0 for none."""
    return int(times.max()) + 1 if len(times) else 0


def _counts(fold: Array) -> str:
    train, validation, test = np.bincount(fold[fold >= 0], minlength=3)[:3]
    return f"{train:,} in train, {validation:,} in validation and {test:,} in test"

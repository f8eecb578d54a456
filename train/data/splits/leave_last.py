"""The split `leave_last`: the newest interactions of each user are the test."""

from typing import Literal

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.splits.base import TEST, VALIDATION, Split, end_of


class LeaveLast(Split):
    """The newest interactions of each user are the test, the next newest the validation.

    Users with too few interactions for both and one more are trained on only. The cut is not in
    time: others' later interactions are known in training, so results look better than they would
    be. `t1` and `t2` are one second after the newest interaction of what comes before.

    Attributes:
        test: interactions of each user that are the test; with kinds of events, of those that the
            test counts, and what comes after the first of them is not known.
        validation: interactions of each user, before these, that are the validation.
    """

    name: Literal["leave_last"] = "leave_last"
    test: int = Field(default=1, ge=1)
    validation: int = Field(default=1, ge=1)

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Number each user's interactions from the newest back."""
        user, held_out = interactions.user, self.test + self.validation
        back = _back(interactions)
        # Something is left to learn from, and there are as many as are to be held out.
        left = interactions.positive & (back > held_out)
        count = int(user.max(initial=-1)) + 1
        enough = np.bincount(user[left], minlength=count) > 0
        enough &= np.bincount(user[interactions.counted], minlength=count) >= held_out
        enough = enough[user]
        fold = np.zeros(len(user), np.int8)
        fold[enough & (back <= self.test + self.validation)] = VALIDATION
        fold[enough & (back <= self.test)] = TEST
        t1, t2 = (end_of(interactions.timestamp[fold < f]) for f in (VALIDATION, TEST))
        return fold, t1, t2

    def earlier(self, interactions: Interactions, steps: int) -> tuple[Split, Array]:
        """Return this split, and the interactions before each user's newest `steps` tests."""
        return self, _back(interactions) > steps * self.test


def _back(interactions: Interactions) -> Array:
    """Return the place of each interaction from its user's newest, which has 1, int64 `[N]`.

    Only those that the test counts are numbered; another one has the place after the next of them.
    """
    user, counted = interactions.user, interactions.counted
    before = np.concatenate([[0], np.cumsum(counted)])
    to_the_end: Array = before[np.searchsorted(user, user, side="right")] - before[:-1]
    return to_the_end + ~counted

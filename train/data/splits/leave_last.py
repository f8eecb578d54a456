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
        test: interactions of each user that are the test.
        validation: interactions of each user, before these, that are the validation.
    """

    name: Literal["leave_last"] = "leave_last"
    test: int = Field(default=1, ge=1)
    validation: int = Field(default=1, ge=1)

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Number each user's interactions from the newest back."""
        user = interactions.user
        ends = np.searchsorted(user, user, side="right")
        starts = np.searchsorted(user, user, side="left")
        back = _back(user)
        enough = ends - starts > self.test + self.validation
        fold = np.zeros(len(user), np.int8)
        fold[enough & (back <= self.test + self.validation)] = VALIDATION
        fold[enough & (back <= self.test)] = TEST
        t1, t2 = (end_of(interactions.timestamp[fold < f]) for f in (VALIDATION, TEST))
        return fold, t1, t2

    def earlier(self, interactions: Interactions, steps: int) -> tuple[Split, Array]:
        """Return this split, and the interactions before each user's newest `steps` tests."""
        return self, _back(interactions.user) > steps * self.test


def _back(user: Array) -> Array:
    """Return the place of each interaction from its user's newest, which has 1, int64 `[N]`."""
    back: Array = np.searchsorted(user, user, side="right") - np.arange(len(user))
    return back

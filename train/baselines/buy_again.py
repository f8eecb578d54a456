"""Buy again: what a user had before, by how often and how long ago."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from train.baselines.base import Baseline, Scorer
from train.core.ragged import Array
from train.data.repeats import UNIT
from train.data.snapshot import Snapshot
from train.data.statistics import DAY

COUNTED = 36_500.0  # days: no decay that matters


class BuyAgain(Baseline):
    """Rank a user's own items by a count decayed by age, then the others by popularity.

    It is of use only where seen items are recommended again. Recency is what repeat consumption
    follows first (Anderson et al., WWW 2014).

    Attributes:
        half_life: days after which an interaction counts half; None picks it on the validation
            window, among 7 to 365 and 36,500, which is the plain count.
    """

    name: Literal["buy_again"] = "buy_again"
    half_life: float | None = Field(default=None, gt=0)
    grid = ({"half_life": (COUNTED, 365.0, 180.0, 90.0, 30.0, 14.0, 7.0)},)
    fallback = {"half_life": 90.0}  # noqa: RUF012

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the interactions of each pair."""
        counts, rest = self.counts(known), popularity_share(known)

        def scores(users: Array) -> Array:
            out = np.tile(rest, (len(users), 1))
            own = counts[users].tocoo()
            out[own.row, own.col] += own.data
            return out

        return scores

    def counts(self, known: Snapshot) -> Any:
        """Return the decayed count of each pair, whole numbers, CSR float64 `[U, I]`."""
        from scipy.sparse import csr_array

        past = known.interactions.take(known.interactions.timestamp < known.as_of)
        half_life = self.settled().half_life or COUNTED
        age = (known.as_of - past.timestamp) / DAY
        weight = np.maximum(np.rint(UNIT * 0.5 ** (age / half_life)), 1)
        shape = len(known.histories), len(known.catalogue)
        matrix = csr_array((weight, (past.user, past.item)), shape=shape)
        matrix.sum_duplicates()
        return matrix


def popularity_share(known: Snapshot) -> Array:
    """Return numbers in [0, 1) that order items by popularity, float64 `[I]`."""
    order = known.statistics.popular()
    share = np.empty(len(order))
    share[order] = np.arange(len(order) - 1, -1, -1) / max(len(order), 1)
    return share

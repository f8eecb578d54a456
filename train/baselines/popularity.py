"""Popularity: number of interactions of all time, and of the last days."""

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from train.baselines.base import Baseline, Scorer, same_for_all
from train.data.snapshot import Holdout, Snapshot
from train.data.statistics import DAY

ALL_TIME = 36_500  # days: a hundred years, back to the beginning of any data


class Popularity(Baseline):
    """Rank by interactions of all time, the same for every user."""

    name: Literal["popularity"] = "popularity"

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the interactions of each item."""
        return same_for_all(known.statistics.item_count)


class RecentPopularity(Baseline):
    """Rank by interactions of the last days, equal ones by those of all time.

    Attributes:
        days: length of the window; None picks it on the validation window, among 1 day to 90 and
            36,500, which is all time, and is `evaluation.recent_days` where that has no users.
    """

    name: Literal["recent_popularity"] = "recent_popularity"
    needs_times: ClassVar[bool] = True
    days: int | None = Field(default=None, ge=1)
    grid = ({"days": (ALL_TIME, 90, 30, 14, 7, 3, 1)},)

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the recent interactions of each item."""
        events, total = known.interactions, known.statistics.item_count
        days = recent_days if self.days is None else self.days
        recent = (events.timestamp < known.as_of) & (events.timestamp >= known.as_of - days * DAY)
        count = np.bincount(events.item[recent], minlength=len(total))
        return same_for_all(count + total / (total.max(initial=0) + 1))

    def tuned(self, holdout: Holdout, recent_days: int, k: int, seed: int) -> Self:
        """Pick the window; `recent_days` without users."""
        chosen = super().tuned(holdout, recent_days, k, seed)
        return chosen if chosen.days else chosen.model_copy(update={"days": recent_days})

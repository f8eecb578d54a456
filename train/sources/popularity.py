"""Sources that propose a list of popular items: of all time, of the last days, on the rise."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from train.baselines.base import Baseline
from train.baselines.popularity import Popularity, RecentPopularity
from train.data.snapshot import Snapshot
from train.data.statistics import DAY
from train.sources.base import Source, SourceSettings
from train.sources.lists import ListSource


class _PopularitySource(Baseline, SourceSettings):
    """A baseline that scores items the same for everybody, as a source."""

    name: str

    def source(self, known: Snapshot, seed: int) -> Source:
        """Score each item."""
        days = int(known.statistics.recent_days.max(initial=1))
        scores = self.fit(known, days, seed)(np.zeros(1, dtype=np.int64))[0]
        return ListSource(scores.astype(np.float32), known.catalogue)


class PopularitySource(_PopularitySource, Popularity):
    """The items with the most interactions of all time."""

    name: Literal["popularity"] = "popularity"


class RecentPopularitySource(_PopularitySource, RecentPopularity):
    """The items with the most interactions of the last days; see the baseline."""

    name: Literal["recent_popularity"] = "recent_popularity"


class TrendingSource(SourceSettings):
    """The items whose interactions of the last days are most above those of the time before.

    An item's score is the standardized difference `(c - e) / sqrt(e + 1)` of its interactions c in
    the window to those expected, e, if it had kept its share of all interactions before.

    Attributes:
        days: length of the window.
    """

    name: Literal["trending"] = "trending"
    needs_times: ClassVar[bool] = True
    days: int = Field(default=7, ge=1)

    def source(self, known: Snapshot, seed: int) -> Source:
        """Count the interactions in the window and before it."""
        events, size = known.interactions, len(known.catalogue)
        recent = events.timestamp >= known.as_of - self.days * DAY
        count = np.bincount(events.item[recent], minlength=size)
        before = np.bincount(events.item[~recent], minlength=size)
        expected = before * (count.sum() / max(before.sum(), 1))
        scores = (count - expected) / np.sqrt(expected + 1)
        return ListSource(scores.astype(np.float32), known.catalogue)

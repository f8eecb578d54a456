"""Settings of the source of a user's own past."""

from typing import Literal

import numpy as np

from train.baselines.buy_again import BuyAgain, popularity_share
from train.data.snapshot import Snapshot
from train.sources.base import Source, SourceSettings
from train.sources.repeats import RepeatSource

# Steps of the popularity that equal counts are ordered by: fine enough, and float32 holds them.
STEPS = 2**10


class BuyAgainSource(BuyAgain, SourceSettings):
    """A user's own items; see the baseline `buy_again`. It needs `seen` "allow" or "only"."""

    name: Literal["buy_again"] = "buy_again"

    def lacks(self, known: Snapshot) -> str | None:
        """Return that nobody interacted with an item twice, where that is so."""
        pairs = known.interactions.user.astype(np.int64) * len(known.catalogue)
        pairs += known.interactions.item
        if len(np.unique(pairs)) < len(pairs):
            return None
        return "no user interacted with an item twice"

    def source(self, known: Snapshot, seed: int) -> Source:
        """Count the interactions of each pair."""
        counts = self.counts(known)
        counts.sort_indices()
        events = known.interactions
        past = events.user[events.timestamp < known.as_of]
        steps = np.floor(popularity_share(known) * STEPS) / STEPS
        return RepeatSource(
            items=counts.indices.astype(np.int32),
            offsets=counts.indptr.astype(np.int64),
            counts=counts.data,
            lengths=np.bincount(past, minlength=len(known.histories)),
            popularity=steps.astype(np.float32),
            catalogue=known.catalogue,
        )

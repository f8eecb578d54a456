"""Requests in indices, and the candidates that stage 1 retrieves for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from train.core.features import Features
from train.core.ragged import Array, Ragged


@dataclass(frozen=True)
class Queries:
    """Users and histories to find candidates for.

    Attributes:
        user: int32 `[B]`, -1 for a user unknown at training time.
        history: `B` rows of items, oldest first.
        exclude: `B` rows of items that must not be recommended: seen ones, and those that the
            request excludes.
        attributes: of the `B` users, encoded: those of a request upon the stored ones; None where
            no request gives any.
        described: whether a request gives attributes that are not the stored ones, bool `[B]`; None
            where none does.
    """

    user: Array
    history: Ragged
    exclude: Ragged
    attributes: Features | None = None
    described: Array | None = None

    @property
    def bare(self) -> Array:
        """Whether only attributes that came with it say something of a request, bool `[B]`."""
        if self.described is None:
            return np.zeros(len(self.user), dtype=bool)
        return np.asarray((self.user < 0) & (self.history.lengths == 0) & self.described)

    def take(self, rows: Array) -> "Queries":
        """Return some of the requests, `[n]`."""
        own = self.user[rows], self.history.take(rows), self.exclude.take(rows)
        if self.attributes is None or self.described is None:
            return Queries(*own)
        return Queries(*own, self.attributes.take(rows), self.described[rows])


@dataclass(frozen=True)
class Candidates:
    """Items that stage 1 retrieved, best first.

    Attributes:
        items: int32 `[B, C]`, -1 after the last.
        scores: float32 `[B, C]`, -inf after the last.
        proposed: the sources that proposed each item, a bit a source, uint16 `[B, C]`; None where
            there is one source.
        by_source: scores of each of S sources for all candidates, float32 `[S, B, C]`; None where
            there is one source, or before they are asked for.
    """

    items: Array
    scores: Array
    proposed: Array | None = None
    by_source: Array | None = None

    def first(self, count: int) -> "Candidates":
        """Return the first `count` of each request."""
        return self._each(lambda part: part[..., :count])

    def take(self, rows: Array) -> "Candidates":
        """Return the candidates of some requests, `[n]`."""
        return self._each(lambda part: part[..., rows, :])

    def _each(self, change: Callable[[Array], Array]) -> "Candidates":
        proposed = None if self.proposed is None else change(self.proposed)
        by_source = None if self.by_source is None else change(self.by_source)
        return Candidates(change(self.items), change(self.scores), proposed, by_source)

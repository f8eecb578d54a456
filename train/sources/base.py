"""A candidate source: fitted on a snapshot, it proposes items and scores those of other sources."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

from pydantic import Field

from train.core.ragged import Array
from train.core.settings import Settings
from train.data.snapshot import Holdout, Snapshot
from train.index.candidates import Candidates, Queries

NO_TIMES = "it needs times, and all interactions have one"


class Source(Protocol):
    """A fitted candidate source.

    The candidates and scores of a request depend on that request alone, bit for bit, whatever
    others come with it. A user is described by the history of the request, so that users unknown
    at training time are answered as the others are.
    """

    @property
    def shape(self) -> str:
        """Its key in `train.sources.fitted.SHAPES`."""
        ...

    @property
    def reads_attributes(self) -> bool:
        """Whether it reads the attributes of users (`Queries.attributes`)."""
        ...

    def candidates(self, requests: Queries, count: int) -> Candidates:
        """Return the `count` best items of the catalogue, none of them excluded, for B requests.

        Returns:
            items int32 `[B, count]`, best first, equal ones by item, -1 after the last; scores
            float32 `[B, count]`, -inf after the last.
        """
        ...

    def score(self, requests: Queries, items: Array) -> Array:
        """Return the scores of items `[B, C]` (-1 for none, of any score), float32 `[B, C]`."""
        ...

    def within(self, mask: Array) -> Self:
        """Return the source that proposes some of its items alone, bool `[I]`; scores stay."""
        ...

    def arrays(self) -> Mapping[str, Array]:
        """Return every array by its name, to be stored."""
        ...


class SourceSettings(Settings):
    """Settings of a candidate source; `source` fits one.

    Attributes:
        quota: candidates that it proposes for a request, before the sources are merged; as many as
            stage 1 hands to stage 2 where none is given. Where all quotas together are too few,
            what the sources have beyond them follows.
    """

    name: str
    needs_times: ClassVar[bool] = False
    quota: int | None = Field(default=None, ge=1)

    def lacks(self, known: Snapshot) -> str | None:
        """Return why the data do not suffice, in a sentence, or None where they do."""
        if self.needs_times and not known.interactions.timed:
            return NO_TIMES
        return None

    def tuned(self, holdout: Holdout, recent_days: int, k: int, seed: int) -> Self:
        """Return the settings with each that is None picked on a holdout; see `Baseline.tuned`."""
        return self

    def source(self, known: Snapshot, seed: int) -> Source:
        """Fit the source on a snapshot.

        Args:
            known: its interactions, statistics and catalogue.
            seed: of every draw.

        Raises:
            ValueError: it cannot be fitted to these data.
        """
        raise NotImplementedError

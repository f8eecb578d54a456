"""The splits `time` and `last_days`: everybody is cut at the same two moments."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.splits.base import DAY, Quantile, Split, end_of


def _seconds(moment: int | str) -> int:
    """Return a moment in seconds since 1970; without a zone it is in UTC."""
    if isinstance(moment, int):
        return moment
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError as error:
        raise ValueError(
            f"expected seconds since 1970 or an ISO date or time (2024-01-31T12:00), got {moment!r}"
        ) from error
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


def _readable(moment: int | str | None) -> int | str | None:
    if moment is not None:
        _seconds(moment)
    return moment


def _text(moment: Any) -> Any:
    return moment.isoformat() if isinstance(moment, date) else moment


# TOML has dates of its own; the settings keep them as text, which JSON can hold too.
Moment = Annotated[int | str | None, BeforeValidator(_text), AfterValidator(_readable)]


class Moments(Split):
    """Two moments for everybody: where the validation window begins, and where the test does.

    Attributes:
        at: the moment, in seconds or as an ISO date or time (UTC without a zone); interactions at
            this time or later are the test.
        quantile: instead of `at`: this share of the interactions comes before the test, by linear
            interpolation between times; all at the quantile itself come before.
        validation_quantile: the same share, of what is before the test, that comes before the
            validation window.
        validation_at: instead of `validation_quantile`: the moment where that window begins.
    """

    at: Moment = None
    quantile: Quantile | None = None
    validation_quantile: Quantile = 0.9
    validation_at: Moment = None

    @model_validator(mode="after")
    def _one_cut(self) -> "Moments":
        if self.at is not None and self.quantile is not None:
            raise ValueError("the time split takes at or quantile, not both; drop one of them")
        return self

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Cut at two moments; without `at` and `quantile` the test starts at the 0.8 quantile."""
        times = interactions.timestamp
        t2 = _after(times, self.quantile or 0.8) if self.at is None else _seconds(self.at)
        t1 = t2
        if self.validation_at is not None:
            t1 = _seconds(self.validation_at)
        elif (times < t2).any():
            t1 = _after(times[times < t2], self.validation_quantile)
        return _between(times, t1, t2), t1, t2

    def earlier(self, interactions: Interactions, steps: int) -> tuple[Split, Array]:
        """Return the split whose cut is `steps` lengths of the test before this one's."""
        times = interactions.timestamp
        _, _, t2 = self.cut(interactions)
        length = end_of(times) - t2
        at: dict[str, Any] = {"at": t2 - steps * length, "quantile": None}
        if self.validation_at is not None:
            at["validation_at"] = _seconds(self.validation_at) - steps * length
        return self.model_copy(update=at), times < t2 - (steps - 1) * length


class Time(Moments):
    """One moment for everybody: what happened from then on is the test."""

    name: Literal["time"] = "time"


class LastDays(Split):
    """The last days are the test, and the days before them the validation window.

    Attributes:
        days: length of the test, back from the newest interaction.
        validation_days: length of the validation window before it.
    """

    name: Literal["last_days"] = "last_days"
    days: float = Field(default=7.0, gt=0)
    validation_days: float = Field(default=7.0, gt=0)

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Cut `days` before the newest interaction, and `validation_days` before that."""
        times = interactions.timestamp
        newest = int(times.max()) if len(times) else 0
        t2 = newest + 1 - round(self.days * DAY)
        t1 = t2 - round(self.validation_days * DAY)
        return _between(times, t1, t2), t1, t2

    def earlier(self, interactions: Interactions, steps: int) -> tuple[Split, Array]:
        """Return the split in time whose cuts are `steps` times `days` before these."""
        times = interactions.timestamp
        _, t1, t2 = self.cut(interactions)
        length = round(self.days * DAY)
        minimums = {name: getattr(self, name) for name in Split.model_fields}
        cuts = {"at": t2 - steps * length, "validation_at": t1 - steps * length}
        return Time.model_validate(minimums | cuts), times < t2 - (steps - 1) * length


def _between(times: Array, t1: int, t2: int) -> Array:
    return ((times >= t1).astype(np.int8) + (times >= t2)).astype(np.int8)


def _after(times: Array, quantile: float) -> int:
    """Return the first whole second after a quantile of the times."""
    return int(np.floor(np.quantile(times, quantile))) + 1 if len(times) else 0

"""The split `auto`: in time where there are times, else random."""

from typing import Literal

from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.splits.base import Split
from train.data.splits.random import Random
from train.data.splits.times import Moments, Time


class AutoSplit(Moments):
    """The split `time` where interactions have times, and `random` where they have none.

    The bundle records which of them it was, with its settings. Moments are refused where there are
    no times.
    """

    name: Literal["auto"] = "auto"

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Cut as the split does that suits."""
        return self.suiting(interactions).cut(interactions)

    def earlier(self, interactions: Interactions, steps: int) -> tuple[Split, Array]:
        """Return an earlier cut of the split that suits."""
        return self.suiting(interactions).earlier(interactions, steps)

    def suiting(self, interactions: Interactions) -> Split:
        """Return the split that suits, with the same settings.

        Raises:
            ValueError: there are no times, and a moment is given.
        """
        settings = self.model_dump(exclude={"name"})
        if interactions.timed:
            return Time.model_validate(settings)
        minimums = {name: settings.pop(name) for name in Split.model_fields}
        moments = AutoSplit().model_dump(include=set(settings))
        given = [f"{name} = {value}" for name, value in settings.items() if value != moments[name]]
        if given:
            raise ValueError(
                f"split: {', '.join(given)} needs times, and all interactions have one time, or "
                "none; name the column that has them in data.timestamp, or take this out"
            )
        return Random.model_validate(minimums)

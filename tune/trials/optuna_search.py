"""Optuna as Ray Tune's searcher: first the run as it is, and failed trials told as bad ones."""

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from tune.space.points import Point, told
from tune.space.ranges import Space
from tune.trials.trial import WORST, Directions


class Search(OptunaSearch):
    """Suggests the run as it is, then the points to start with, then what Optuna draws."""

    def __init__(
        self,
        draw: Callable[[Any], dict[str, Any]],
        metrics: Directions,
        sampler: optuna.samplers.BaseSampler,
        *,
        as_it_is: Callable[[Sequence[float]], Any],
        start: Sequence[Point] = (),
        **study: Any,
    ) -> None:
        """Make a study.

        Args:
            draw: returns a trial's config of what Optuna suggests.
            metrics: by name, with their directions.
            sampler: of Optuna.
            as_it_is: returns the run as it is with its values as a trial of the study, or None.
            start: points of the space, by Optuna's names.
            study: `storage` and `study_name`.
        """
        names: list[str] = list(metrics)
        modes: list[str] = [*metrics.values()]
        alone = len(names) == 1
        super().__init__(
            draw,
            points_to_evaluate=list(start),
            metric=names[0] if alone else names,
            mode=modes[0] if alone else modes,
            sampler=sampler,
            **study,
        )
        self._directions = dict(metrics)
        self._as_it_is = as_it_is
        self._first: str | None = None
        self._count = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the config of a trial, with its number."""
        self._count += 1
        if self._first is None:
            self._first = trial_id
            return {"trial": self._count, "overrides": {}}
        return {"trial": self._count, **(super().suggest(trial_id) or {})}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna of an epoch."""
        # After a kill its database may know of an end that Tune's last snapshot does not.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            if trial_id != self._first:
                super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended; one whose process died has the worst values."""
        values = {name: WORST[mode] for name, mode in self._directions.items()}
        if not error:
            values |= {name: (result or {}).get(name, values[name]) for name in values}
        if trial_id != self._first:
            super().on_trial_complete(trial_id, {**(result or {}), **values})
            return
        known = self._as_it_is(list(values.values()))
        if known is not None:
            self._study.add_trial(known)

    def tell(self, points: Sequence[tuple[Point, Sequence[float]]], space: Space) -> None:
        """Tell Optuna of trials of an earlier sweep."""
        for found, values in points:
            self._study.add_trial(told(space, found, values))

    @property
    def _study(self) -> optuna.Study:
        study: Any = self._ot_study
        assert isinstance(study, optuna.Study), "made at once, for a space that is a function"
        return study


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler for `Sweep.search`."""
    # Groups are marked as experimental; they are what conditional ranges need.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    samplers: Mapping[str, Callable[[], optuna.samplers.BaseSampler]] = {
        # Knobs of one choice are learned together; what still runs counts as bad, so that
        # trials at the same time differ.
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    return samplers[name]()

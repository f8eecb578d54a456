"""Optuna as Ray Tune's searcher: the base run first, and failed trials with the worst values."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from ray.tune.search import ConcurrencyLimiter, SearchGenerator
from ray.tune.search.optuna import OptunaSearch

from tune.space.points import Point, finished_trial
from tune.space.ranges import Space
from tune.trials.trial import WORST, Directions


class Search(OptunaSearch):
    """A search that suggests the base run, then the points to start with, then Optuna's draws."""

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
        """Create the study.

        Args:
            draw: a function from Optuna's suggestions to a trial's config.
            metrics: by name, with their directions.
            sampler: of Optuna.
            as_it_is: a function from the base run's values to its trial of the study, or None.
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
        """Report an epoch to Optuna."""
        # After a kill its database may have a trial finished that Tune's last snapshot has not.
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            if trial_id != self._first:
                super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Report a trial's final values to Optuna; the worst ones where its process died."""
        values = {name: WORST[mode] for name, mode in self._directions.items()}
        if not error:
            values |= {name: (result or {}).get(name, values[name]) for name in values}
        if trial_id != self._first:
            super().on_trial_complete(trial_id, {**(result or {}), **values})
            return
        base = self._as_it_is(list(values.values()))
        if base is not None:
            self._study.add_trial(base)

    def add_finished(self, points: Sequence[tuple[Point, Sequence[float]]], space: Space) -> None:
        """Add trials of an earlier sweep to the study, as a warm start."""
        for params, values in points:
            self._study.add_trial(finished_trial(space, params, values))

    @property
    def _study(self) -> optuna.Study:
        study: Any = self._ot_study
        assert isinstance(study, optuna.Study), "made at once, for a space that is a function"
        return study


class Trials(SearchGenerator):
    """Suggests a search's trials until there are as many as the sweep asks for.

    Tune keeps the number that an experiment began with; this one is read anew by each resume.
    """

    def __init__(
        self, search: Search, asked: Callable[[], int | None], at_once: int | None
    ) -> None:
        """Wrap a search.

        Args:
            search: where trials come from.
            asked: returns the number of trials, or None where time alone limits them.
            at_once: the most trials that run at the same time, if anything but room limits them.
        """
        super().__init__(ConcurrencyLimiter(search, at_once) if at_once else search)
        self._asked = asked

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from an earlier process's state; with more trials than then, it has not ended."""
        number = self._asked() or sys.maxsize
        more = number > state["total_samples"]
        finished = state["finished"] and not more
        super().set_state({**state, "total_samples": number, "finished": finished})


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler for `Sweep.search`."""
    # Groups are marked as experimental; they are what conditional ranges need.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    samplers: Mapping[str, Callable[[], optuna.samplers.BaseSampler]] = {
        # Settings of one choice are modeled together (multivariate, in groups); trials that still
        # run count as bad (constant liar), so that trials at the same time differ.
        "tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        ),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    return samplers[name]()

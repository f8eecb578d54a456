"""Points of a space: the draw that gives a run, and finished trials for a warm start of Optuna."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, FrozenTrial, create_trial

from train.config import Run, name_of
from tune.space.draws import override, suggest
from tune.space.ranges import TOGETHER, Choice, Space

Point = dict[str, Any]
"""Parameters of a draw, by Optuna's names."""


def point(space: Space, run: Run, wanted: Run) -> Point | None:
    """Return the parameters that Optuna would have to suggest to turn a run into another.

    Args:
        space: of a sweep.
        run: the base run.
        wanted: the run to make.

    Returns:
        None where no draw of the space gives it.
    """
    table = wanted.table()
    points = _each({key: (range_, _at(table, key)) for key, range_ in space.items()}, "")
    # Options may differ in nothing but keys that they leave to a default.
    exact = (each for each in points if override(run, suggest(space, FixedTrial(each))) == wanted)
    return next(exact, None)


def _each(pairs: Mapping[str, tuple[Any, Any]], path: str) -> Iterator[Point]:
    """Yield points that draw all of several values, each from its range."""
    parts = [list(_locate(f"{path}{key}", *pair)) for key, pair in pairs.items()]
    for chosen in itertools.product(*parts):
        yield {name: value for part in chosen for name, value in part.items()}


def _locate(name: str, range_: Any, value: Any) -> Iterator[Point]:
    """Yield the parts of a point that draw a value from a range."""
    if isinstance(range_, FloatDistribution | IntDistribution):
        if _holds(range_, value):
            yield {name: value}
    elif isinstance(range_, Choice):
        for label, option in range_.options.items():
            for part in _locate(f"{name}.{label}", option, value):
                yield {name: label, **part}
    elif isinstance(range_, list) and isinstance(value, list):
        if [name_of(part) for part in range_] == [name_of(part) for part in value]:
            yield from _each(
                {str(name_of(v)): (part, v) for part, v in zip(range_, value, strict=True)},
                f"{name}.",
            )
    elif isinstance(range_, dict) and isinstance(value, dict):
        yield from _each({k: (part, _at(value, k)) for k, part in range_.items()}, f"{name}.")
    elif range_ in (value, name_of(value)):
        yield {}


def _holds(range_: FloatDistribution | IntDistribution, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(range_._contains(value))


def _at(table: Any, key: str) -> Any:
    if key == TOGETHER:
        return table
    for part in key.split("."):
        if isinstance(table, list):
            table = next((entry for entry in table if name_of(entry) == part), None)
        else:
            table = table.get(part) if isinstance(table, dict) else None
    return table


def finished_trial(space: Space, params: Point, values: Sequence[float]) -> FrozenTrial:
    """Return a finished trial at a point, for a study that did not suggest it.

    Args:
        space: of the sweep.
        params: see `point`.
        values: one for each metric.
    """
    fixed = FixedTrial(params)
    suggest(space, fixed)
    return create_trial(params=params, distributions=fixed.distributions, values=list(values))

"""Draws of a space: suggested by Optuna, as overrides of a run, checked before anything starts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from cluster.cli import message
from train.config import Run, name_of
from tune.space.ranges import TOGETHER, Choice, Space


def suggest(space: Space, trial: BaseTrial) -> dict[str, Any]:
    """Return one draw of each key of a space; those of "*" among the others."""
    return spread({key: _draw(trial, key, range_) for key, range_ in space.items()})


def spread(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return draws with the keys that "*" chose in its place."""
    apart = {key: value for key, value in drawn.items() if key != TOGETHER}
    return {**apart, **drawn.get(TOGETHER, {})}


def _draw(trial: BaseTrial, name: str, range_: Any) -> Any:
    if isinstance(range_, FloatDistribution):
        return trial.suggest_float(name, range_.low, range_.high, step=range_.step, log=range_.log)
    if isinstance(range_, IntDistribution):
        return trial.suggest_int(name, range_.low, range_.high)
    if isinstance(range_, Choice):
        label = trial.suggest_categorical(name, list(range_.options))
        return _draw(trial, f"{name}.{label}", range_.options[label])
    if isinstance(range_, list):
        named = [str(name_of(inner)) for inner in range_]
        return [_draw(trial, f"{name}.{n}", inner) for n, inner in zip(named, range_, strict=True)]
    if not isinstance(range_, dict):
        return range_
    return {key: _draw(trial, f"{name}.{key}", inner) for key, inner in range_.items()}


def override(run: Run, overrides: Mapping[str, Any]) -> Run:
    """Return the run with the values at some keys (`loss`, `train.epochs`) replaced.

    A `loss.name` that is another one takes the place of the whole table. Entries of a list are
    found by their names: `sources.ease.quota`.

    Raises:
        ValueError: a key or value that the run does not know.
    """
    table = run.table()
    # Tables first, then keys within them: a new name replaces the whole table.
    for key in sorted(overrides, key=lambda key: (key.count("."), not key.endswith(".name"))):
        _put(table, key, overrides[key])
    return Run.model_validate(table)


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    inner: Any = table
    for part in above:
        inner = _entry(key, inner, part) if isinstance(inner, list) else inner.setdefault(part, {})
        if not isinstance(inner, dict | list):
            raise ValueError(f"{key}: {part} is a value ({inner!r}), not a table")
    if isinstance(inner, list):
        raise ValueError(f"{key}: name a key of it too, such as {key}.quota")
    if above and last == "name" and inner.get("name", value) != value:
        inner.clear()
    inner[last] = value


def _entry(key: str, entries: list[Any], name: str) -> Any:
    """Return the entry of a list with a name."""
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    names = ", ".join(str(name_of(entry)) for entry in entries)
    raise ValueError(f"{key}: {name} is not among {names}; add it to the run")


# Enough to draw each option of a preset's choices together with each other one some times.
SAMPLES = 1000


def check(space: Space, run: Run, keys: Sequence[str], fixed: Sequence[str] = ()) -> list[Run]:
    """Return the runs at the ends of every range and at every option, and many drawn ones, checked.

    Args:
        space: of a sweep.
        run: the base run.
        keys: tables of a run that the subject of a sweep varies.
        fixed: keys within them that change no metric of a trial.

    Raises:
        ValueError: a key or value that the run does not know, or a key that a trial ignores.
    """
    draws = [*corners(space), *samples(space, SAMPLES)]
    runs = [_checked(run, drawn) for drawn in draws]
    for key in sorted({key for drawn in draws for key in drawn}):
        if key.split(".")[0] not in keys or key in fixed:
            but = f", but for {', '.join(fixed)}" if fixed else ""
            raise ValueError(
                f"space: {key} changes nothing that a trial measures; it can be a key of "
                f"{', '.join(keys)}{but}"
            )
    return runs


def _checked(run: Run, drawn: Mapping[str, Any]) -> Run:
    try:
        return override(run, drawn)
    except ValueError as error:
        raise ValueError(f"space: {json.dumps(drawn)} is not a run: {message(error)}") from error


def samples(space: Space, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return random draws of a space."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return [suggest(space, study.ask()) for _ in range(count)]


def corners(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return draws in which each end of a range and each option occurs, one key after another."""
    return [spread(corner) for corner in _corners(space)]


def _corners(space: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    ends = {key: _ends(range_) for key, range_ in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    return [first | {key: value} for key, values in ends.items() for value in values]


def _ends(range_: Any) -> Sequence[Any]:
    if isinstance(range_, FloatDistribution | IntDistribution):
        return [range_.low, range_.high]
    if isinstance(range_, Choice):
        return [end for option in range_.options.values() for end in _ends(option)]
    if isinstance(range_, list):
        return [list(corner.values()) for corner in _corners(dict(enumerate(range_)))]
    return _corners(range_) if isinstance(range_, dict) and range_ else [range_]

"""What a sweep varies: keys of a run, each with a range or a choice, and the trials drawn from it.

    "train.learning_rate" = { loguniform = [1e-4, 1e-2] }
    "tower.width" = { int = [8, 64] }
    loss = { choice = [
        { name = "in_batch_softmax", temperature = { uniform = [0.1, 2] } },
        { name = "full_softmax" },
    ] }

A chosen table replaces the whole table of the run, and ranges within it are drawn only for trials
that chose it, so no trial has a key that its loss or tower does not know.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import FloatDistribution, IntDistribution

from cluster.command import unknown
from train.config import Run

# A trial trains towers on data that was prepared once: nothing else of a run can change its metric.
SEARCHED = ("tower", "loss", "train")
FIXED = ("train.workers", "train.gpu", "train.threads", "train.max_failures")


@dataclass(frozen=True)
class Choice:
    """One of several values; a table's own values may be ranges and choices again.

    Attributes:
        options: by the label that the search knows each one by.
    """

    options: Mapping[str, Any]


Range = FloatDistribution | IntDistribution | Choice
Space = Mapping[str, Range]


def parse(table: Mapping[str, Any]) -> dict[str, Range]:
    """Return the ranges of a space by key; a nested table is the same as dotted keys.

    Raises:
        ValueError: no key at all, an unknown kind of range, a range upside down, an empty choice,
            or a key within a table that a choice replaces.
    """
    space = dict(_ranges(table, ""))
    if not space:
        raise ValueError('empty; name a key of the run: "train.epochs" = { int = [1, 9] }')
    for key in space:
        for above in space:
            if key.startswith(f"{above}."):
                raise ValueError(
                    f"{key}: a choice replaces the whole of {above}; put this range into its tables"
                )
    return space


def _ranges(table: Mapping[str, Any], path: str) -> list[tuple[str, Range]]:
    found = []
    for key, value in table.items():
        name = f"{path}{key}"
        if not isinstance(value, dict):
            raise ValueError(_no_range(name, value))
        found += [(name, _range(name, value))] if _is_range(value) else _ranges(value, f"{name}.")
    return found


def _no_range(name: str, value: Any) -> str:
    path, _, key = name.rpartition(".")
    if isinstance(value, list) and path:
        return f"{path}: {unknown('kind of range', key, list(KINDS))}"
    return f"{name}: expected a table with one of {', '.join(sorted(KINDS))}, got {value!r}"


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and not KINDS.keys().isdisjoint(value)


def _range(name: str, value: Mapping[str, Any]) -> Range:
    if len(value) != 1:
        raise ValueError(f"{name}: expected one kind of range alone, got {', '.join(value)}")
    [(kind, bounds)] = value.items()
    return KINDS[kind](f"{name}: {kind}", bounds)


def _bounds(name: str, bounds: Any, types: tuple[type, ...]) -> tuple[Any, Any]:
    kind = "whole numbers" if types == (int,) else "numbers"
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or not all(isinstance(b, types) and not isinstance(b, bool) for b in bounds)
    ):
        raise ValueError(f"{name} takes two {kind}, [low, high], got {bounds!r}")
    low, high = bounds
    if not low < high:
        raise ValueError(f"{name} takes [low, high] with low below high, got {bounds}")
    return low, high


def _uniform(name: str, bounds: Any) -> FloatDistribution:
    low, high = _bounds(name, bounds, (int, float))
    return FloatDistribution(low, high)


def _loguniform(name: str, bounds: Any) -> FloatDistribution:
    low, high = _bounds(name, bounds, (int, float))
    if low <= 0:
        raise ValueError(f"{name} takes bounds above 0, got {bounds}")
    return FloatDistribution(low, high, log=True)


def _int(name: str, bounds: Any) -> IntDistribution:
    return IntDistribution(*_bounds(name, bounds, (int,)))


def _choice(name: str, options: Any) -> Choice:
    if not isinstance(options, list) or not options:
        raise ValueError(f"{name} takes a list of at least one option, got {options!r}")
    labels = [_label(option) for option in options]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return Choice({label: _option(name, o) for label, o in zip(labels, options, strict=True)})


def _label(option: Any) -> str:
    named = isinstance(option, dict) and "name" in option
    return str(option["name"]) if named else json.dumps(option)


def _option(name: str, option: Any) -> Any:
    if not isinstance(option, dict):
        return option
    inner = {key: f"{name}: {option.get('name', '')}.{key}" for key in option}
    return {k: _range(inner[k], v) if _is_range(v) else v for k, v in option.items()}


# Both ends of a range count, of `int` too.
KINDS: dict[str, Callable[[str, Any], Range]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "int": _int,
    "choice": _choice,
}


def suggest(space: Space, trial: Trial) -> dict[str, Any]:
    """Return one draw of each key of a space."""
    return {key: _draw(trial, key, range_) for key, range_ in space.items()}


def _draw(trial: Trial, name: str, range_: Any) -> Any:
    if isinstance(range_, FloatDistribution):
        return trial.suggest_float(name, range_.low, range_.high, log=range_.log)
    if isinstance(range_, IntDistribution):
        return trial.suggest_int(name, range_.low, range_.high)
    if not isinstance(range_, Choice):
        return range_
    label = trial.suggest_categorical(name, list(range_.options))
    option = range_.options[label]
    if not isinstance(option, dict):
        return option
    return {key: _draw(trial, f"{name}.{label}.{key}", inner) for key, inner in option.items()}


def override(run: Run, overrides: Mapping[str, Any]) -> Run:
    """Return the run with the values at some keys (`loss`, `train.epochs`) replaced.

    Raises:
        ValueError: a key or value that the run does not know.
    """
    table = run.table()
    for key, value in overrides.items():
        *above, last = key.split(".")
        inner = table
        for part in above:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{key}: {part} is a value ({inner!r}), not a table")
        inner[last] = value
    return Run.model_validate(table)


def check(space: Space, run: Run) -> list[Run]:
    """Return the runs at the ends of every range and at every option, each checked.

    Raises:
        ValueError: a key or value that the run does not know, or a key that a trial ignores.
    """
    runs = [override(run, corner) for corner in corners(space)]
    for key in space:
        if key.split(".")[0] not in SEARCHED or key in FIXED:
            raise ValueError(
                f"space: {key} changes nothing that a trial measures; it can be a key of "
                f"{', '.join(SEARCHED)}, but for {', '.join(FIXED)}"
            )
    return runs


def corners(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return draws in which each end of a range and each option occurs, one key after another."""
    ends = {key: _ends(range_) for key, range_ in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    return [first | {key: value} for key, values in ends.items() for value in values]


def _ends(range_: Any) -> Sequence[Any]:
    if isinstance(range_, FloatDistribution | IntDistribution):
        return [range_.low, range_.high]
    if not isinstance(range_, Choice):
        return [range_]
    options = range_.options.values()
    return [end for o in options for end in (corners(o) if isinstance(o, dict) else [o])]

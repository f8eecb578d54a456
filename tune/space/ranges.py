"""Search spaces: keys of a run, each with a range or a choice that trials are drawn from.

    "train.learning_rate" = { loguniform = [1e-4, 1e-2] }
    "tower.width" = { int = [8, 64] }
    "tower.dropout" = { quniform = [0, 0.5, 0.1] }
    loss = { choice = [
        { name = "in_batch_softmax", temperature = { uniform = [0.1, 2] } },
        { name = "full_softmax" },
    ] }

A chosen table replaces the whole table of the run, and ranges within it are drawn only for trials
that chose it, so no trial has a key that its loss or tower does not know. What has to be chosen
together is a choice of the key "*", whose options are tables of keys of the run:

    "*" = { choice = [
        { "loss.name" = "cosine_contrastive", "tower.score" = "cosine" },
        { "loss.name" = "triplet", "tower.score" = "euclidean" },
    ] }
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from cluster.cli import unknown

# The key of a choice between tables of keys.
TOGETHER = "*"


@dataclass(frozen=True)
class Choice:
    """A categorical choice; the values of an option that is a table may be ranges again.

    Attributes:
        options: by the label of each one in the search.
    """

    options: Mapping[Any, Any]


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
    _check_apart(space)
    return space


def _check_apart(space: Space) -> None:
    """Check that no key is within a table that a choice replaces, nor chosen twice."""
    for key in space:
        for above in space:
            if key.startswith(f"{above}."):
                raise ValueError(
                    f"{key}: a choice replaces the whole of {above}; put this range into its tables"
                )
    together = space.get(TOGETHER, Choice({}))
    options = together.options.values() if isinstance(together, Choice) else [None]
    for option in options:
        if not isinstance(option, dict):
            raise ValueError(f'"{TOGETHER}" takes a choice between tables of keys of the run')
        twice = sorted(option.keys() & space.keys())
        if twice:
            raise ValueError(f'{twice[0]}: "{TOGETHER}" chooses it too; name it in one place')


def _ranges(table: Mapping[str, Any], path: str) -> list[tuple[str, Range]]:
    ranges = []
    for key, value in table.items():
        name = f"{path}{key}"
        if not isinstance(value, dict):
            raise ValueError(_no_range(name, value))
        ranges += [(name, _range(name, value))] if _is_range(value) else _ranges(value, f"{name}.")
    return ranges


def _no_range(name: str, value: Any) -> str:
    path, _, key = name.rpartition(".")
    if isinstance(value, list) and path:
        return f"{path}: {unknown('kind of range', key, list(KINDS))}"
    return f"{name}: expected a table with one of {', '.join(sorted(KINDS))}, got {value!r}"


def _is_range(value: Any) -> bool:
    # A loss may have a setting of that name, but no range has a name.
    return isinstance(value, dict) and "name" not in value and not KINDS.keys().isdisjoint(value)


def _range(name: str, value: Mapping[str, Any]) -> Range:
    if len(value) != 1:
        raise ValueError(f"{name}: expected one kind of range alone, got {', '.join(value)}")
    [(kind, bounds)] = value.items()
    return KINDS[kind](f"{name}: {kind}", bounds)


def _numbers(name: str, given: Any, types: tuple[type, ...], words: str) -> list[Any]:
    """Return the bounds, checked to be as many numbers as `words` names."""
    kind = "whole numbers" if types == (int,) else "numbers"
    count = len(words.split())
    if (
        not isinstance(given, list)
        or len(given) != count
        or not all(isinstance(b, types) and not isinstance(b, bool) for b in given)
    ):
        shown = f"{name} takes {NUMERALS[count]} {kind}, [{', '.join(words.split())}]"
        raise ValueError(f"{shown}, got {given!r}")
    return given


def _bounds(name: str, bounds: Any, types: tuple[type, ...]) -> tuple[Any, Any]:
    low, high = _numbers(name, bounds, types, "low high")
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


def _quniform(name: str, bounds: Any) -> FloatDistribution:
    low, high, step = _numbers(name, bounds, (int, float), "low high step")
    _bounds(name, [low, high], (int, float))
    if not 0 < step <= high - low:
        raise ValueError(f"{name} takes a step above 0 that fits between the ends, got {bounds}")
    return FloatDistribution(low, high, step=step)


def _int(name: str, bounds: Any) -> IntDistribution:
    return IntDistribution(*_bounds(name, bounds, (int,)))


def _choice(name: str, options: Any) -> Choice:
    if not isinstance(options, list) or not options:
        raise ValueError(f"{name} takes a list of at least one option, got {options!r}")
    labels = [_label(option) for option in options]
    labels = [
        f"{label} ({number})" if labels.count(label) > 1 else label
        for number, label in enumerate(labels, 1)
    ]
    return Choice({label: _option(name, o) for label, o in zip(labels, options, strict=True)})


def _label(option: Any) -> Any:
    """Return the label of an option: itself, or the names that are in a table or a list."""
    if isinstance(option, str | int | float):
        return option
    return " ".join(_names(option)) or json.dumps(option)


def _names(option: Any) -> list[str]:
    if isinstance(option, list):
        return [
            name
            for inner in option
            for name in _names({"name": inner} if isinstance(inner, str) else inner)
        ]
    if not isinstance(option, dict):
        return []
    own = [str(v) for k, v in option.items() if k.endswith("name") and not isinstance(v, dict)]
    return own + [name for value in option.values() if _is_table(value) for name in _names(value)]


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and not _is_range(value)


def _option(name: str, option: Any) -> Any:
    if isinstance(option, list):
        return [_option(name, inner) for inner in option]
    if not isinstance(option, dict):
        return option
    inner = {key: f"{name}: {option.get('name', '')}.{key}" for key in option}
    return {k: _range(inner[k], v) if _is_range(v) else _option(name, v) for k, v in option.items()}


NUMERALS = {2: "two", 3: "three"}

# Both ends of a range count, of `int` too.
KINDS: dict[str, Callable[[str, Any], Range]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "quniform": _quniform,
    "int": _int,
    "choice": _choice,
}

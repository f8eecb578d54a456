"""Records of a sweep's trials: their metric values, ranking, Pareto front and settings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from train.core.ragged import Array

Record = dict[str, Any]
"""`trial` (from 1), `overrides`, `params` (by the search's names), `state` (`finished`, `stopped`
early, `failed`), `values` of the metrics, `curve` (the first metric by epoch), `epochs`,
`best_epoch`, `seconds`, `reason` of a failure."""

Records = Sequence[Record]
SIGNS = {"max": 1.0, "min": -1.0}


def values(records: Records, metric: str) -> Array:
    """Return a metric of every trial, float64 `[T]`, NaN where a trial has none."""
    known = [record["values"].get(metric) for record in records]
    numbers = np.array([np.nan if value is None else value for value in known], np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def ranked(records: Records, metrics: Mapping[str, str]) -> list[int]:
    """Return the positions of the trials that have values, sorted by the first metric, best first.

    Ties are broken by the second metric, then by who began first.

    Args:
        records: of the trials.
        metrics: with their directions, `max` or `min`.
    """
    losses = np.array([-SIGNS[up] * values(records, name) for name, up in metrics.items()])
    order = np.lexsort(losses[::-1])
    return [int(place) for place in order if not np.isnan(losses[:, place]).any()]


def best_so_far(numbers: Array, direction: str) -> Array:
    """Return the running best of the numbers; NaN before the first number."""
    sign = SIGNS[direction]
    best: Array = sign * np.fmax.accumulate(sign * numbers)
    return best


def front(points: Array, directions: Sequence[str]) -> Array:
    """Return the rows of the Pareto front: no other is as good in every column and better in one.

    Args:
        points: a row for each trial, a column for each metric, `[T, m]`.
        directions: of each column, `max` or `min`.

    Returns:
        bool `[T]`.
    """
    gains = points * np.array([SIGNS[direction] for direction in directions])
    as_good = (gains[:, None] >= gains[None]).all(axis=2)
    better = (gains[:, None] > gains[None]).any(axis=2)
    on_front: Array = ~(as_good & better).any(axis=0)
    return on_front


def unbeaten(records: Records, metrics: Mapping[str, str]) -> list[int]:
    """Return the positions of the trials on the Pareto front, sorted by the first metric."""
    order = ranked(records, metrics)
    points = np.array([[records[place]["values"][name] for name in metrics] for place in order])
    # An empty list has no second axis.
    on_front = front(points.reshape(len(order), len(metrics)), list(metrics.values()))
    return [place for place, is_on in zip(order, on_front, strict=True) if is_on]


def in_state(records: Records, state: str) -> Array:
    """Return a mask `[T]` of the trials in a state: `finished`, `stopped` or `failed`."""
    return np.array([record["state"] == state for record in records], bool)


def varied(records: Records) -> list[str]:
    """Return the settings that had more than one value, in the order in which they appear."""
    seen: dict[str, set[str]] = {}
    for name, value in _pairs(records):
        seen.setdefault(name, set()).add(shown(value))
    return [name for name, texts in seen.items() if len(texts) > 1]


def _pairs(records: Records) -> Iterator[tuple[str, Any]]:
    for record in records:
        yield from record["params"].items()


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; True and False are none."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and bool(np.isfinite(value))


def shown(value: Any) -> str:
    """Return the value of a setting as text for people: `0.0123`, `true`, `none`."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def log_settings(space: Mapping[str, Any], path: str = "") -> set[str]:
    """Return the settings of a space that are searched on a log scale.

    Args:
        space: the table as it is in the sweep's file; keys may be dotted or nested.
        path: what the names of its keys begin with.
    """
    names: set[str] = set()
    for key, inner in space.items():
        if key.startswith("log") and isinstance(inner, list):
            names.add(path.rstrip("."))
        elif isinstance(inner, Mapping):
            names |= log_settings(inner, f"{path}{key}.")
        elif key == "choice" and isinstance(inner, list):
            tables = [option for option in inner if isinstance(option, Mapping)]
            names |= {n for o in tables for n in log_settings(o, f"{path}{o.get('name')}.")}
    return names

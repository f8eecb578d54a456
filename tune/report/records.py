"""What is read from the records of a sweep's trials: values, order, the best, and settings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from train.core.ragged import Array

Record = Mapping[str, Any]
Records = Sequence[Record]
SIGNS = {"max": 1.0, "min": -1.0}


def values(records: Records, metric: str) -> Array:
    """Return a metric of every trial, NaN where a trial has none."""
    found = [record["values"].get(metric) for record in records]
    numbers = np.array([np.nan if value is None else value for value in found], np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def ranked(records: Records, metrics: Mapping[str, str]) -> list[int]:
    """Return the positions of the trials that have values, the best by the first metric first.

    Where it is the same, the second one decides, then who began first.

    Args:
        records: of the trials.
        metrics: with their directions, `max` or `min`.
    """
    losses = np.array([-SIGNS[up] * values(records, name) for name, up in metrics.items()])
    order = np.lexsort(losses[::-1])
    return [int(place) for place in order if not np.isnan(losses[:, place]).any()]


def best_so_far(numbers: Array, direction: str) -> Array:
    """Return the best of the numbers up to each one; NaN before the first number."""
    sign = SIGNS[direction]
    best: Array = sign * np.fmax.accumulate(sign * numbers)
    return best


def front(points: Array, directions: Sequence[str]) -> Array:
    """Return which rows no other row beats: as good in every column, and better in one.

    Args:
        points: a row for each trial, a column for each metric.
        directions: of each column, `max` or `min`.
    """
    gains = points * np.array([SIGNS[direction] for direction in directions])
    as_good = (gains[:, None] >= gains[None]).all(axis=2)
    better = (gains[:, None] > gains[None]).any(axis=2)
    kept: Array = ~(as_good & better).any(axis=0)
    return kept


def unbeaten(records: Records, metrics: Mapping[str, str]) -> list[int]:
    """Return the positions of the trials on the Pareto front, the best by the first metric first.

    No other trial is at least as good as one of them in every metric, and better in one.
    """
    order = ranked(records, metrics)
    points = np.array([[records[place]["values"][name] for name in metrics] for place in order])
    kept = front(points.reshape(len(order), len(metrics)), list(metrics.values()))
    return [place for place, stays in zip(order, kept, strict=True) if stays]


def in_state(records: Records, state: str) -> Array:
    """Return which trials ended in this state: `finished`, `stopped` or `failed`."""
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
    """Return whether this is a finite number; True and False are none."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and bool(np.isfinite(value))


def shown(value: Any) -> str:
    """Return the value of a setting as people read it: `0.0123`, `true`, `none`."""
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
    found: set[str] = set()
    for key, inner in space.items():
        if key.startswith("log") and isinstance(inner, list):
            found.add(path.rstrip("."))
        elif isinstance(inner, Mapping):
            found |= log_settings(inner, f"{path}{key}.")
        elif key == "choice" and isinstance(inner, list):
            tables = [option for option in inner if isinstance(option, Mapping)]
            found |= {n for o in tables for n in log_settings(o, f"{path}{o.get('name')}.")}
    return found

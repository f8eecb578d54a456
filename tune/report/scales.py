"""The axis of a setting: positions of its values from 0 to 1, ticks and tick labels."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from train.core.ragged import Array
from tune.report.records import is_number, shown

# At most so many distinct values that repeat are drawn as categories, at equal distances.
FEW = 6
# Distance between the categories, such as `none`, that stand before the numbers.
STEP = 0.13


class Scale(NamedTuple):
    """The axis of a setting.

    Attributes:
        places: position of each value, from 0 to 1, `[T]`.
        ticks: positions of the ticks.
        labels: of the ticks.
        gap: distance between neighboring categories; 0 on a continuous axis.
    """

    places: Array
    ticks: list[float]
    labels: list[str]
    gap: float


def scale(values: Sequence[Any], log: bool = False) -> Scale:
    """Return the axis of a setting: numbers by size, everything else as categories.

    Args:
        values: of each trial that has the setting, at least one.
        log: whether numbers are spaced by their logarithms.
    """
    numbers = [value for value in values if is_number(value)]
    distinct = len(set(numbers))
    if not numbers or (distinct <= FEW and distinct < len(numbers)):
        return _columns(values)
    others = sorted({shown(value) for value in values if not is_number(value)})
    return _numbers(values, others, log and min(numbers) > 0)


def _columns(values: Sequence[Any]) -> Scale:
    texts = np.array([shown(value) for value in values], dtype=object)
    order = {shown(value): value for value in values}
    labels = sorted(order, key=lambda text: _by_size(order[text], text))
    gap = 1 / len(labels)
    centres = (np.arange(len(labels)) + 0.5) * gap
    at = dict(zip(labels, centres, strict=True))
    return Scale(np.array([at[text] for text in texts]), centres.tolist(), labels, gap)


def _by_size(value: Any, text: str) -> tuple[bool, float, str]:
    return (True, float(value), "") if is_number(value) else (False, 0.0, text)


def _numbers(values: Sequence[Any], others: Sequence[str], log: bool) -> Scale:
    step = min(STEP, 0.5 / max(1, len(others)))
    start = step * len(others)
    at = {text: step * (place + 0.3) for place, text in enumerate(others)}
    numbers = np.array([value if is_number(value) else np.nan for value in values], np.float64)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    whole = all(isinstance(value, int) for value in values if is_number(value))
    ticks = _ticks(low, high, log, whole)

    def place(at_values: Array) -> Array:
        x, ends = (np.log(at_values), np.log([low, high])) if log else (at_values, [low, high])
        share = (x - ends[0]) / (ends[1] - ends[0]) if low < high else np.full_like(x, 0.5)
        result: Array = start + (1 - start) * share
        return result

    places = place(numbers)
    pairs = zip(values, places, strict=True)
    places = np.array([x if is_number(value) else at[shown(value)] for value, x in pairs])
    positions = [*at.values(), *place(np.array(ticks)).tolist()]
    return Scale(places, positions, [*at, *(f"{tick:.4g}" for tick in ticks)], 0.0)


def _ticks(low: float, high: float, log: bool, whole: bool) -> list[float]:
    """Return about four round numbers between the ends; the ends where there are not two."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if low == high:
        return [low]
    if log and high / low < 100:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.outer(decades, [1, 2, 5]).ravel()
    elif log:
        ticks = np.asarray(LogLocator(numticks=5).tick_values(low, high))
    else:
        locator = MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=whole)
        ticks = np.asarray(locator.tick_values(low, high))
    inside = [float(tick) for tick in ticks if low <= tick <= high]
    if len(inside) > 1:
        return inside
    return [low, high]


def wrapped(name: str, width: int, lines: int = 2) -> str:
    """Return a name wrapped at its dots and spaces; lines that are too long lose their middle.

    Args:
        name: of a setting, or one of its values.
        width: maximum letters of a line.
        lines: maximum number of lines.
    """
    rows = [""]
    for part in re.findall(r"[^._ ]*[._ ]?", name):
        if len(rows[-1]) + len(part) > width and rows[-1]:
            rows.append("")
        rows[-1] += part
    rows = [*rows[: lines - 1], "".join(rows[lines - 1 :])]
    return "\n".join(_cut(row, width) for row in rows)


def _cut(text: str, width: int) -> str:
    """Return a text with its middle elided where it is too long: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"

"""The plots of a sweep's page by setting: importance, values against a metric, all side by side."""

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from train.core.ragged import Array
from train.report.plots import BLUE, ORANGE, OTHER, empty_figure
from tune.report.plots import axis_label, dots
from tune.report.records import Records, ranked, values
from tune.report.scales import Scale, scale, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3
# The share of trials, from the best on, that has a colour among the lines, and the most of them.
GOOD, MOST_GOOD = 0.2, 10
# Where a line passes a setting that its trial does not have.
ABSENT = -0.12
# Letters on a line of so small print, for each inch.
LETTERS = 14
GOLDEN = 0.618034


def importance(shares: Mapping[str, float]) -> "Figure":
    """Draw the importance of settings as bars, the largest on top."""
    figure = empty_figure(8.4, 0.9 + 0.34 * len(shares))
    axis = figure.subplots()
    rows = np.arange(len(shares))[::-1]
    bars = axis.barh(rows, [*shares.values()], height=0.66, color=BLUE)
    axis.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=4, fontsize=8.5)
    axis.set_yticks(rows, [wrapped(name, 44, 1) for name in shares])
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.set_xlabel("share of the importance of all settings")
    axis.margins(x=0.1)
    axis.grid(axis="y", visible=False)
    return figure


def slices(
    records: Records,
    metric: str,
    direction: str,
    names: Sequence[str],
    logs: Set[str],
    best: int | None,
) -> "Figure":
    """Draw a metric against each setting by itself.

    Args:
        records: of the trials.
        metric: what they are compared by.
        direction: `max` or `min`.
        names: of the settings.
        logs: those that are spaced by their logarithms.
        best: the position of the best trial.
    """
    across, down = min(ACROSS, len(names)), -(-len(names) // ACROSS)
    figure = empty_figure(8.4, 0.6 + 2.5 * down)
    axes = [*figure.subplots(down, across, sharey=True, squeeze=False).ravel()]
    y = values(records, metric)
    for axis, name in zip(axes, names, strict=False):
        _slice(axis, records, y, name, name in logs, best, 7.2 / across)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.supylabel(axis_label(metric, direction), fontsize=9.5)
    handles, labels = _entries(axes[: len(names)])
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _slice(
    axis: "Axes", records: Records, y: Array, name: str, log: bool, best: int | None, inches: float
) -> None:
    having = [place for place, record in enumerate(records) if name in record["params"]]
    found = scale([records[place]["params"][name] for place in having], log)
    x = np.full(len(records), np.nan)
    x[having] = found.places
    # A fixed sequence that fills a column evenly: pages of the same records are the same.
    x += 0.55 * found.gap * ((np.arange(len(records)) * GOLDEN) % 1 - 0.5)
    dots(axis, x, y, records, best)
    axis.set_title(_title(name, log, 34), fontsize=9)
    axis.set_xlim(-0.05, 1.05)
    axis.margins(y=0.08)
    _write_marks(axis, found, inches)


def _title(name: str, log: bool, width: int) -> str:
    return f"{wrapped(name, width, 1)}\n(log scale)" if log else wrapped(name, width)


def _write_marks(axis: "Axes", found: Scale, inches: float) -> None:
    longest = max(map(len, found.labels))
    room = int(inches * LETTERS / len(found.labels))
    every = -(-len(found.labels) // 12) if found.gap else 1
    labels = [wrapped(text, 16, 1) for text in found.labels[::every]]
    axis.set_xticks(found.marks[::every], labels, fontsize=8)
    if longest > room:
        axis.tick_params(axis="x", rotation=90)


def _entries(axes: Sequence["Axes"]) -> tuple[list[Any], list[str]]:
    """Return what the legends of several plots show, each name once."""
    pairs = [pair for axis in axes for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    by_name = {name: handle for handle, name in pairs}
    return [*by_name.values()], [*by_name]


def parallel(
    records: Records,
    metric: str,
    direction: str,
    names: Sequence[str],
    logs: Set[str],
    best: int | None,
) -> "Figure":
    """Draw each trial as a line through its settings, one below the other, the good in colour.

    Args:
        records: of the trials.
        metric: what they are compared by.
        direction: `max` or `min`.
        names: of the settings.
        logs: those that are spaced by their logarithms.
        best: the position of the best trial.
    """
    order = [place for place in ranked(records, {metric: direction}) if records[place]["params"]]
    used = [records[place] for place in order]
    figure = empty_figure(8.4, 0.7 + 0.56 * (1 + len(names)))
    axis = figure.subplots()
    rows = [
        _row(axis, 0, scale([*values(used, metric)]), range(len(used)), len(used)),
        *(_setting_row(axis, row, used, name, logs) for row, name in enumerate(names, 1)),
    ]
    _lines(axis, np.array(rows), order, best)
    axis.set_ylim(len(names) + 0.55, -0.3)
    axis.set_xlim(ABSENT - 0.04, 1.02)
    titles = [wrapped(axis_label(metric, direction), 30)]
    titles += [_title(name, name in logs, 30) for name in names]
    axis.set_yticks(range(len(titles)), titles, fontsize=8.5)
    _bare(axis)
    return figure


def _setting_row(axis: "Axes", row: int, records: Records, name: str, logs: Set[str]) -> Array:
    having = [place for place, record in enumerate(records) if name in record["params"]]
    found = scale([records[place]["params"][name] for place in having], name in logs)
    return _row(axis, row, found, having, len(records))


def _row(axis: "Axes", row: int, found: Scale, having: Sequence[int], trials: int) -> Array:
    """Draw the axis of a row, and return where the line of each trial crosses it."""
    axis.plot([0, 1], [row, row], color="#777777", linewidth=0.9, zorder=1)
    marks, labels = [*found.marks], [*found.labels]
    if len(having) < trials:
        marks, labels = [ABSENT, *marks], ["unset", *labels]
    every = -(-len(labels) // 14)
    width = max(6, int(5.4 * LETTERS / max(1, len(labels) / every)) - 1)
    for mark, text in list(zip(marks, labels, strict=True))[::every]:
        axis.plot([mark, mark], [row - 0.06, row + 0.06], color="#777777", linewidth=0.9)
        axis.annotate(
            wrapped(text, width, 1),
            (mark, row),
            (0, -6),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7.5,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )
    places = np.full(trials, ABSENT)
    places[list(having)] = found.places
    return places


def _lines(axis: "Axes", rows: Array, order: Sequence[int], best: int | None) -> None:
    good = min(MOST_GOOD, max(1, int(GOOD * len(order))))
    below = np.arange(len(rows))
    for rank in reversed(range(len(order))):
        colour, width = (BLUE, 1.5) if rank < good else (OTHER, 0.9)
        if order[rank] == best:
            colour, width = ORANGE, 2.4
        layer = 2 + (rank < good) + (order[rank] == best)
        axis.plot(rows[:, rank], below, color=colour, linewidth=width, zorder=layer, alpha=0.85)


def _bare(axis: "Axes") -> None:
    axis.grid(visible=False)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "bottom"]].set_visible(False)

"""Plots of a sweep by setting: importance, slices (metric by setting), parallel coordinates."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
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
# Share of the best trials that have a color among the lines, and their maximum.
GOOD, MOST_GOOD = 0.2, 10
# Position at which a line passes a setting that its trial does not have.
ABSENT = -0.12
# Letters of the small print of tick labels that fit an inch.
LETTERS = 14
# Multiples of it, modulo 1, fill an interval evenly however many there are (a Kronecker sequence).
GOLDEN = 0.618034


@dataclass(frozen=True)
class Plotted:
    """Trials and settings of a plot.

    Attributes:
        records: of the trials.
        metric: that the trials are compared by.
        direction: `max` or `min`.
        names: of the settings.
        logs: names of the settings on a log scale.
        best: the position of the best trial.
    """

    records: Records
    metric: str
    direction: str
    names: Sequence[str]
    logs: Set[str]
    best: int | None


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


def slices(plotted: Plotted) -> "Figure":
    """Draw a metric against each setting by itself."""
    names = plotted.names
    across, down = min(ACROSS, len(names)), -(-len(names) // ACROSS)
    figure = empty_figure(8.4, 0.6 + 2.5 * down)
    axes = [*figure.subplots(down, across, sharey=True, squeeze=False).ravel()]
    for axis, name in zip(axes, names, strict=False):
        _slice(axis, plotted, name, 7.2 / across)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.supylabel(axis_label(plotted.metric, plotted.direction), fontsize=9.5)
    handles, labels = _legend_entries(axes[: len(names)])
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _slice(axis: "Axes", plotted: Plotted, name: str, inches: float) -> None:
    records, log = plotted.records, name in plotted.logs
    having = _having(records, name)
    of_setting = _scale(records, name, log)
    x = np.full(len(records), np.nan)
    x[having] = of_setting.places
    # Jitter within a category, the same each time: pages of the same records are the same.
    x += 0.55 * of_setting.gap * ((np.arange(len(records)) * GOLDEN) % 1 - 0.5)
    dots(axis, x, values(records, plotted.metric), records, plotted.best)
    axis.set_title(_title(name, log, 34), fontsize=9)
    axis.set_xlim(-0.05, 1.05)
    axis.margins(y=0.08)
    _write_ticks(axis, of_setting, inches)


def _having(records: Records, name: str) -> list[int]:
    """Return the positions of the trials that have a setting."""
    return [place for place, record in enumerate(records) if name in record["params"]]


def _scale(records: Records, name: str, log: bool) -> Scale:
    return scale([records[place]["params"][name] for place in _having(records, name)], log)


def _title(name: str, log: bool, width: int) -> str:
    return f"{wrapped(name, width, 1)}\n(log scale)" if log else wrapped(name, width)


def _write_ticks(axis: "Axes", of_setting: Scale, inches: float) -> None:
    longest = max(map(len, of_setting.labels))
    room = int(inches * LETTERS / len(of_setting.labels))
    every = -(-len(of_setting.labels) // 12) if of_setting.gap else 1
    labels = [wrapped(text, 16, 1) for text in of_setting.labels[::every]]
    axis.set_xticks(of_setting.ticks[::every], labels, fontsize=8)
    if longest > room:
        axis.tick_params(axis="x", rotation=90)


def _legend_entries(axes: Sequence["Axes"]) -> tuple[list[Any], list[str]]:
    """Return the legend of several plots, each name once, as handles and labels."""
    pairs = [pair for axis in axes for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    by_name = {name: handle for handle, name in pairs}
    return [*by_name.values()], [*by_name]


def parallel(plotted: Plotted) -> "Figure":
    """Draw parallel coordinates: each trial a line through its settings, the best in color."""
    names, direction = plotted.names, {plotted.metric: plotted.direction}
    order = [p for p in ranked(plotted.records, direction) if plotted.records[p]["params"]]
    records = [plotted.records[place] for place in order]
    figure = empty_figure(8.4, 0.7 + 0.56 * (1 + len(names)))
    axis = figure.subplots()
    everywhere = range(len(records))
    rows = [_row(axis, 0, scale([*values(records, plotted.metric)]), everywhere, len(records))]
    for row, name in enumerate(names, 1):
        of_setting = _scale(records, name, name in plotted.logs)
        rows.append(_row(axis, row, of_setting, _having(records, name), len(records)))
    _lines(axis, np.array(rows), order, plotted.best)
    axis.set_ylim(len(names) + 0.55, -0.3)
    axis.set_xlim(ABSENT - 0.04, 1.02)
    titles = [wrapped(axis_label(plotted.metric, plotted.direction), 30)]
    titles += [_title(name, name in plotted.logs, 30) for name in names]
    axis.set_yticks(range(len(titles)), titles, fontsize=8.5)
    _remove_frame(axis)
    return figure


def _row(axis: "Axes", row: int, of_row: Scale, having: Sequence[int], trials: int) -> Array:
    """Draw the axis of a row, and return where the line of each trial crosses it, `[T]`."""
    axis.plot([0, 1], [row, row], color="#777777", linewidth=0.9, zorder=1)
    ticks, labels = [*of_row.ticks], [*of_row.labels]
    if len(having) < trials:
        ticks, labels = [ABSENT, *ticks], ["unset", *labels]
    every = -(-len(labels) // 14)
    width = max(6, int(5.4 * LETTERS / max(1, len(labels) / every)) - 1)
    for tick, text in list(zip(ticks, labels, strict=True))[::every]:
        axis.plot([tick, tick], [row - 0.06, row + 0.06], color="#777777", linewidth=0.9)
        axis.annotate(
            wrapped(text, width, 1),
            (tick, row),
            (0, -6),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7.5,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )
    places = np.full(trials, ABSENT)
    places[list(having)] = of_row.places
    return places


def _lines(axis: "Axes", rows: Array, order: Sequence[int], best: int | None) -> None:
    good = min(MOST_GOOD, max(1, int(GOOD * len(order))))
    below = np.arange(len(rows))
    # The worst first, so that better ones are drawn over them.
    for line in reversed(range(len(order))):
        color, width = (BLUE, 1.5) if line < good else (OTHER, 0.9)
        if order[line] == best:
            color, width = ORANGE, 2.4
        layer = 2 + (line < good) + (order[line] == best)
        axis.plot(rows[:, line], below, color=color, linewidth=width, zorder=layer, alpha=0.85)


def _remove_frame(axis: "Axes") -> None:
    axis.grid(visible=False)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "bottom"]].set_visible(False)

"""Plots of a sweep by trial: optimization history, learning curves, Pareto front."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from train.core.ragged import Array
from train.report.plots import BLUE, GREY, ORANGE, empty_figure
from tune.report.records import Record, Records, best_so_far, front, in_state, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK = "#4d4d4d"
# A log scale from this ratio of the largest to the smallest value on.
LOG_RATIO = 20
STATES = {"failed": "failed", "stopped": "stopped early", "finished": "finished"}
LINES: dict[str, dict[str, Any]] = {
    "failed": {"color": DARK, "linestyle": ":"},
    "stopped": {"color": "#b5b5b5"},
    "finished": {"color": BLUE},
}
# Minimum distance between numbers, as shares of the width and the height.
ROOM = np.array([0.04, 0.06])
FINISHED: dict[str, Any] = {"marker": "o", "color": BLUE, "s": 26, "linewidths": 0}
STOPPED: dict[str, Any] = {"marker": "o", "facecolors": "white", "edgecolors": GREY, "s": 24}
BEST: dict[str, Any] = {"marker": "D", "color": ORANGE, "s": 52, "zorder": 4}


def label(metric: str) -> str:
    """Return the display name of a metric: `NDCG@10`, `recall`, `milliseconds`."""
    name, at, k = metric.partition("@")
    name = name.upper() if name in ("ndcg", "map", "mrr") else name.replace("_", " ")
    return f"{name}{at}{k}"


def axis_label(metric: str, direction: str) -> str:
    """Return the label of a metric's axis, with the direction that is better."""
    return f"{label(metric)} ({'higher' if direction == 'max' else 'lower'} is better)"


def history(records: Records, metrics: Mapping[str, str], best: int | None) -> "Figure":
    """Draw the optimization history: each metric by trial, the best so far, failed trials.

    Args:
        records: of the trials.
        metrics: with their directions.
        best: the position of the best trial.
    """
    figure = empty_figure(8.4, 0.8 + 2.5 * len(metrics))
    axes = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (metric, direction) in zip(axes, metrics.items(), strict=True):
        _values_in_order(axis, records, metric, direction, best)
        axis.set_ylabel(axis_label(metric, direction).replace(" (", "\n("))
    axes[-1].set_xlabel("trial, in order of start")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlim(0, records[-1]["trial"] + 1)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _values_in_order(
    axis: "Axes", records: Records, metric: str, direction: str, best: int | None
) -> None:
    numbers = np.array([record["trial"] for record in records])
    y, failed = values(records, metric), in_state(records, "failed")
    line = best_so_far(y, direction)
    axis.step(numbers, line, where="post", color=ORANGE, linewidth=1.2, label="best so far")
    dots(axis, numbers, y, records, best)
    if failed.any():
        place, across = np.full(failed.sum(), 0.035), axis.get_xaxis_transform()
        axis.plot(numbers[failed], place, "x", color=DARK, transform=across, label="failed")
    axis.margins(y=0.12)


def dots(axis: "Axes", x: Array, y: Array, records: Records, best: int | None) -> None:
    """Draw a dot for each trial: finished ones in color, stopped ones hollow, the best marked.

    Args:
        axis: to draw on.
        x: of each trial, `[T]`; NaN for none.
        y: of each trial, `[T]`; NaN for none.
        records: of the trials.
        best: the position of the best trial.
    """
    there = ~np.isnan(x) & ~np.isnan(y)
    for state, look in (("stopped", STOPPED), ("finished", FINISHED)):
        chosen = there & in_state(records, state)
        if chosen.any():
            axis.scatter(x[chosen], y[chosen], label=STATES[state], zorder=3, **look)
    if best is not None and there[best]:
        axis.scatter(x[best], y[best], label=f"the best: {called(records[best])}", **BEST)


def called(record: Record) -> str:
    """Return the display name of a trial: its number, or the run as it is."""
    return f"trial {record['trial']}" if record["params"] else "the run as it is"


def learning_curves(records: Records, metric: str, direction: str, best: int | None) -> "Figure":
    """Draw a metric by epoch of each trial: stopped ones gray, finished ones in color.

    Args:
        records: of the trials.
        metric: to draw.
        direction: `max` or `min`.
        best: the position of the best trial.
    """
    figure = empty_figure(8.4, 3.8)
    axis = figure.subplots()
    for state, name in STATES.items():
        rows = [r for place, r in enumerate(records) if r["state"] == state and place != best]
        _curves(axis, rows, metric, name, alpha=0.65, **LINES[state])
    if best is not None:
        name = f"the best: {called(records[best])}"
        _curves(axis, [records[best]], metric, name, color=ORANGE, linewidth=2.4, zorder=4)
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.set_ylabel(axis_label(metric, direction))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _curves(axis: "Axes", records: Records, metric: str, name: str, **look: Any) -> None:
    drawn = [record["curve"] for record in records if record.get("curve")]
    for place, curve in enumerate(drawn):
        y = [np.nan if row.get(metric) is None else row[metric] for row in curve]
        epochs = [row["epoch"] for row in curve]
        shown = name if place == 0 else None
        axis.plot(epochs, y, marker="o", markersize=2.6, label=shown, **({"linewidth": 1.1} | look))


def pareto(records: Records, metrics: Mapping[str, str], best: int | None) -> "Figure":
    """Draw two metrics against each other; the trials of the Pareto front are joined.

    Args:
        records: of the trials.
        metrics: two, with their directions.
        best: the position of the best trial.
    """
    (up, up_to), (along, along_to) = metrics.items()
    x, y = values(records, along), values(records, up)
    figure = empty_figure(8.4, 4.2)
    axis = figure.subplots()
    both = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    best_of_both = both[front(np.stack([y[both], x[both]], axis=1), [up_to, along_to])]
    joined = best_of_both[np.argsort(x[best_of_both], kind="stable")]
    axis.plot(x[joined], y[joined], color=ORANGE, linewidth=1.4, zorder=2)
    axis.scatter(
        x[joined], y[joined], s=90, facecolors="none", edgecolors=ORANGE, zorder=2, label="front"
    )
    dots(axis, x, y, records, best)
    if len(both) and x[both].min() > 0 and x[both].max() > LOG_RATIO * x[both].min():
        axis.set_xscale("log")
    axis.margins(0.08)
    axis.set_xlabel(axis_label(along, along_to))
    axis.set_ylabel(axis_label(up, up_to))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    _number(axis, joined.tolist(), x, y, records)
    return figure


def _number(axis: "Axes", places: Sequence[int], x: Array, y: Array, records: Records) -> None:
    """Write the numbers of trials above their dots, where there is room for them."""
    written: list[Array] = []
    for place in places:
        point = (float(x[place]), float(y[place]))
        here = axis.transAxes.inverted().transform(axis.transData.transform(point))
        if all(np.abs((here - there) / ROOM).max() > 1 for there in written):
            written.append(here)
            text, up = str(records[place]["trial"]), (0, 8)
            axis.annotate(text, point, up, textcoords="offset points", ha="center", fontsize=8)

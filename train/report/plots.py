"""Plots of a run's report: learning curves, metrics, score densities, recall, item map."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from train.core.ragged import Array
from train.report.item_map import ItemMap
from train.report.learned import strongest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
# Distinguishable with color blindness (Okabe and Ito, 2008), and gray for the rest.
COLORS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#4d4d4d")
# Of the map: titles at the most, and letters of one.
LABELS, LETTERS = 40, 28
OTHER = "#d0d0d0"
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9.5,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "raytower",
}
OURS = ("stage_1", "both_stages")
SOURCE = "source_"


def learning_curves(curve: Sequence[Mapping[str, Any]], kept: int) -> "Figure":
    """Draw the training loss and the validation NDCG@10 by epoch; `kept` is the best epoch."""
    figure = empty_figure(8.4, 3.0)
    epochs = [row["epoch"] for row in curve]
    axes = figure.subplots(1, 2)
    for axis, key, title in zip(
        axes, ("loss", "ndcg"), ("Training loss", "Validation NDCG@10"), strict=True
    ):
        axis.plot(epochs, [row.get(key, np.nan) for row in curve], "o-", color=BLUE, markersize=4)
        axis.axvline(kept, color=GREY, linestyle=":", linewidth=1.2, label=f"kept: epoch {kept}")
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(loc="best")
    return figure


def systems(metrics: Mapping[str, Any]) -> "Figure":
    """Draw recall and NDCG of every system with their intervals, ours in color."""
    names = [*metrics["systems"]][::-1]
    figure = empty_figure(8.4, 1.3 + 0.3 * len(names))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, metric in zip(axes, ("ndcg", "recall"), strict=True):
        for row, name in enumerate(names):
            value = metrics["systems"][name][metric]
            color = ORANGE if name in OURS else BLUE if name.startswith(SOURCE) else GREY
            axis.plot([value["low"], value["high"]], [row, row], color=color, linewidth=2)
            axis.plot(value["mean"], row, "o", color=color, markersize=6)
        label = "NDCG" if metric == "ndcg" else "recall"
        axis.set_xlabel(f"{label}@{metrics['k']}, mean and 95 % interval")
        axis.xaxis.get_major_locator().set_params(nbins=4)
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    return figure


def importance(features: Mapping[str, float], measure: str) -> "Figure":
    """Draw the strongest features as bars, to the left where they count against a candidate."""
    shown = strongest(features)
    names = [*shown][::-1]
    figure = empty_figure(8.4, 1.0 + 0.26 * len(names))
    axis = figure.subplots()
    values = [shown[name] for name in names]
    colors = [ORANGE if name.startswith(SOURCE) else GREY for name in names]
    axis.barh(range(len(names)), values, color=colors, height=0.7)
    axis.axvline(0, color="#444444", linewidth=0.8)
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.set_xlabel(measure)
    axis.set_title("Features of stage 2; those of sources in orange")
    axis.grid(axis="y", visible=False)
    return figure


def score_densities(test: Mapping[str, Array]) -> "Figure":
    """Draw the score densities of test pairs and of random pairs of the same users in stage 1."""
    figure = empty_figure(8.4, 3.0)
    axis = figure.subplots()
    edges = test["score_edges"]
    kinds = (
        ("score_positive", ORANGE, "test pairs"),
        ("score_negative", BLUE, "random unseen pairs"),
    )
    for name, color, label in kinds:
        axis.stairs(test[name], edges, color=color, label=label, linewidth=1.6)
        axis.stairs(test[name], edges, color=color, fill=True, alpha=0.15)
    axis.set_xlabel("score of stage 1")
    axis.set_ylabel("density")
    axis.set_ylim(bottom=0)
    axis.legend()
    return figure


def items_on_a_plane(mapped: ItemMap, titles: Sequence[str | None] = ()) -> "Figure":
    """Draw a map of items, colored by category, `other` below all others, with some titles."""
    figure = empty_figure(8.4, 6.2)
    axis = figure.subplots()
    last = len(mapped.names) - 1
    for number, name in enumerate(mapped.names):
        color, order = (OTHER, 1) if number == last else (COLORS[number], 2)
        x, y = mapped.place[mapped.value == number].T
        axis.scatter(
            x, y, s=12, color=color, label=name, linewidths=0, zorder=order, rasterized=True
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for item in apart(mapped.place, [bool(title) for title in titles]):
        text = str(titles[item])
        short = text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
        label = axis.annotate(
            short, mapped.place[item], fontsize=7, ha="center", va="bottom", clip_on=True, zorder=3
        )
        # What lies below a title shows through it.
        label.set_bbox({"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 0.5})
    axis.set_xlabel("t-SNE, no units")
    if mapped.column:
        axis.legend(
            title=mapped.column, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2
        )
    return figure


def apart(place: Array, named: Sequence[bool]) -> list[int]:
    """Return which items of a map, `[M, 2]`, have room for a title: the first ones have it first.

    Args:
        place: coordinates, most popular first.
        named: whether an item has a title; none for no titles at all.
    """
    # A title is as wide as a quarter of the map, and as high as a thirtieth.
    room = np.ptp(place, axis=0) / np.array([4, 30]) if len(place) else np.ones(2)
    chosen: list[int] = []
    for item in np.flatnonzero(named).tolist():
        if len(chosen) == LABELS:
            break
        if (np.abs(place[chosen] - place[item]) >= room).any(axis=1).all():
            chosen.append(item)
    return chosen


def recall_by_count(test: Mapping[str, Array], candidates: int) -> "Figure":
    """Draw the recall of stage 1 by the number of candidates; `candidates` go to stage 2."""
    figure = empty_figure(8.4, 3.0)
    axis = figure.subplots()
    counts = test["recall_counts"]
    axis.fill_between(counts, test["recall_low"], test["recall_high"], color=BLUE, alpha=0.2)
    axis.plot(counts, test["recall_mean"], color=BLUE, label="mean, with its 95 % interval")
    label = f"{candidates:,} candidates go to stage 2"
    axis.axvline(candidates, color=GREY, linestyle=":", label=label)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_xlabel("candidates of stage 1 (log scale)")
    axis.set_ylabel("recall")
    axis.set_ylim(0, 1)
    axis.legend(loc="upper left")
    return figure


def recall_by_time(rows: Sequence[Mapping[str, float]], k: int) -> "Figure":
    """Draw the recall of HNSW, measured against exact search, by time, a point for each `ef`."""
    figure = empty_figure(8.4, 3.4)
    axis = figure.subplots()
    *graph, exact = rows
    times, recalls = [row["us"] for row in graph], [row["recall"] for row in graph]
    axis.plot(times, recalls, "o-", color=BLUE, markersize=4, label="HNSW, by ef")
    axis.plot(exact["us"], 1.0, "D", color=ORANGE, markersize=7, label="exact search")
    _label_efs(axis, graph)
    axis.set_xlim(left=0)
    axis.set_xlabel("microseconds a query (one thread, 16 queries at a time)")
    axis.set_ylabel(f"recall@{k} of exact search")
    axis.margins(y=0.15)
    axis.legend(loc="lower right")
    return figure


def _label_efs(axis: "Axes", rows: Sequence[Mapping[str, float]]) -> None:
    """Write `ef` beside the points that have room for it."""
    spread = max((row["us"] for row in rows), default=1.0)
    written = -np.inf
    for row in sorted(rows, key=lambda row: row["us"]):
        if row["us"] - written >= 0.04 * spread:
            written = row["us"]
            place, text = (row["us"], row["recall"]), f"{row['ef']:.0f}"
            axis.annotate(text, place, (5, -11), textcoords="offset points", fontsize=8)


def empty_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, outside of pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(plot: Callable[..., "Figure"], *arguments: Any) -> bytes:
    """Return a plot as SVG: reproducible byte for byte, letters as paths.

    Args:
        plot: the function that draws it.
        arguments: of the function.
    """
    return _saved("svg", {"Date": None}, plot, *arguments)


def png(plot: Callable[..., "Figure"], *arguments: Any) -> bytes:
    """Return a plot as PNG, for viewers without SVG.

    Args:
        plot: the function that draws it.
        arguments: of the function.
    """
    return _saved("png", {"Software": None}, plot, *arguments)


def _saved(
    kind: str, metadata: dict[str, Any], plot: Callable[..., "Figure"], *arguments: Any
) -> bytes:
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context(STYLE):
        plot(*arguments).savefig(file, format=kind, dpi=150, metadata=metadata)
    return file.getvalue()

"""The report of a sweep as one HTML file, with its plots as images beside it."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster import storage
from train.report.html import bullets, document, figure, folded, table
from train.report.page import FILE
from train.report.plots import png
from tune.report import plots, setting_plots
from tune.report.importance import importances, why_not
from tune.report.records import (
    Record,
    Records,
    in_state,
    log_settings,
    ranked,
    shown,
    values,
    varied,
)
from tune.report.setting_plots import Plotted

# Maximum number of settings in the slices and parallel coordinates, and of bars of importance.
MOST = 12
BARS = 25
ONE_BY_ONE = (
    "Each dot is a trial that has the setting. Values to choose from have a column each, in which "
    "only the height of a dot means something."
)
SIDE_BY_SIDE = (
    "Each line is a trial, from its value on top down through its settings: the best one orange, "
    "the best fifth, ten at most, blue. It passes 'unset' where its trial has no such setting."
)
STYLE = """
td:last-child, th:last-child { text-align: left; white-space: normal; min-width: 16rem;
                               overflow-wrap: anywhere; }
"""
Figures = Mapping[str, tuple[Any, ...]]
"""Arguments of `train.report.html.figure` by the name of the plot's file."""

HOW = {"tpe": "drawn by TPE", "random": "drawn at random"}
ENDED = {"asha": "bad ones stopped early by ASHA", "none": "none stopped early"}


def write_page(
    home: str, sweep: Mapping[str, Any], records: Records, outcome: Mapping[str, Any]
) -> str:
    """Write `report.html`, whole or not at all, and its plots as `plots/NAME.png` beside it.

    Args:
        home: the sweep's folder or URI.
        sweep: settings `name`, `run`, `trials`, `seed`, `search`, `scheduler`, `space`, and
            `metrics` with their directions, of which the first decides who is best.
        records: one for each trial, in the order in which they started.
        outcome: the number of the `best` trial, and `lines` about it as plain sentences.

    Returns:
        the path or URI of the page.
    """
    metrics, best = sweep["metrics"], _best(sweep["metrics"], records, outcome)
    logs = log_settings(sweep.get("space", {}))
    figures = _figures(metrics, records, best, logs)
    for name, (_, _, plot, *arguments) in figures.items():
        storage.write_bytes(storage.join(home, "plots", f"{name}.png"), png(plot, *arguments))
    parts = [*_head(sweep, records), *_outcome(outcome), *_trials(figures)]
    parts += [*_settings(metrics, records, figures), *_table(metrics, records, best)]
    parts += ["<h2>Configuration</h2>", folded("the sweep", dict(sweep))]
    place = storage.join(storage.absolute(home), FILE)
    title = f"{sweep.get('name', 'sweep')}: report"
    storage.write_bytes(place, document(title, parts, STYLE).encode())
    return place


def _best(metrics: Mapping[str, str], records: Records, outcome: Mapping[str, Any]) -> int | None:
    """Return the position of the best trial; None where no trial has a value."""
    for place, record in enumerate(records):
        if record["trial"] == outcome.get("best"):
            return place
    order = ranked(records, metrics)
    return order[0] if order else None


def _figures(
    metrics: Mapping[str, str], records: Records, best: int | None, logs: set[str]
) -> Figures:
    """Return the figures of the page; none where no trial has a value."""
    metric, direction = next(iter(metrics.items()))
    if not ranked(records, metrics):
        return {}
    return {
        **_figures_of_trials(metrics, records, best),
        **_figures_of_settings(metric, direction, records, best, logs),
    }


def _figures_of_trials(metrics: Mapping[str, str], records: Records, best: int | None) -> Figures:
    metric, direction = next(iter(metrics.items()))
    caption = "Each dot is a trial; one that was stopped early has the best value up to there."
    figures: dict[str, tuple[Any, ...]] = {
        "history": ("Optimization history", caption, plots.history, records, metrics, best)
    }
    if any(record.get("curve") for record in records):
        caption = "Each line is a trial, measured after every epoch."
        curves = plots.learning_curves, records, metric, direction, best
        figures["curves"] = ("Learning curves", caption, *curves)
    numbers = [values(records, name) for name in metrics]
    if len(metrics) == 2 and not np.isnan(sum(numbers)).all():
        caption = (
            "Trials that no other beats in both metrics are joined; numbers are theirs. "
            "Which of them to take is a matter of what the second metric is worth."
        )
        figures["pareto"] = ("Pareto front", caption, plots.pareto, records, metrics, best)
    return figures


def _figures_of_settings(
    metric: str, direction: str, records: Records, best: int | None, logs: set[str]
) -> Figures:
    names = _varied(metric, records)
    shares = {} if why_not(records, metric) else importances(records, metric, logs)
    order = [*shares, *(name for name in names if name not in shares)]
    figures: dict[str, tuple[Any, ...]] = {}
    if shares:
        title, caption = "Importance of the settings", _importance_caption(shares, metric)
        bars = dict([*shares.items()][:BARS])
        figures["importance"] = (title, caption, setting_plots.importance, bars)
    if order:
        more = _capped(len(order), MOST, bool(shares))
        plotted = Plotted(records, metric, direction, order[:MOST], logs, best)
        caption = ONE_BY_ONE + more
        figures["slices"] = ("Settings one by one", caption, setting_plots.slices, plotted)
        caption = SIDE_BY_SIDE + more
        figures["parallel"] = ("Settings side by side", caption, setting_plots.parallel, plotted)
    return figures


def _importance_caption(shares: Mapping[str, float], metric: str) -> str:
    return (
        f"How much of the variance of {plots.label(metric)} between trials each setting explains "
        "(fANOVA), trials that were stopped early included. It holds within the ranges that were "
        f"searched; with few trials it is a rough guide.{_capped(len(shares), BARS, True)}"
    )


def _capped(count: int, most: int, by_importance: bool) -> str:
    which = "most important" if by_importance else "first"
    return f" The {most} {which} of {count} settings." if count > most else ""


def _varied(metric: str, records: Records) -> list[str]:
    """Return the settings that had more than one value among trials that were measured."""
    numbers = values(records, metric)
    return varied([r for r, value in zip(records, numbers, strict=True) if not np.isnan(value)])


def _head(sweep: Mapping[str, Any], records: Records) -> Iterator[str]:
    counts = ", ".join(
        f"{in_state(records, state).sum()} {name}"
        for state, name in (
            ("finished", "finished"),
            ("stopped", "stopped early"),
            ("failed", "failed"),
        )
    )
    planned = f"{len(records)} of {sweep.get('trials', len(records))} trials"
    how = [HOW.get(sweep.get("search", "")), ENDED.get(sweep.get("scheduler", ""))]
    how += [f"seed {sweep['seed']}"] if "seed" in sweep else []
    first, *others = [plots.axis_label(*metric) for metric in sweep["metrics"].items()]
    by = f"best by {first}" + "".join(f"; also measured: {other}" for other in others)
    lines = [
        f"{planned} of {sweep.get('run', 'a run')}: {counts}",
        f"{', '.join(filter(None, how))}; {by}",
    ]
    yield f"<h1>{html.escape(str(sweep.get('name', 'sweep')))}</h1>"
    yield from (f'<p class="facts">{html.escape(line)}</p>' for line in lines)


def _outcome(outcome: Mapping[str, Any]) -> Iterator[str]:
    if outcome.get("lines"):
        yield "<h2>Outcome</h2>"
        yield bullets(outcome["lines"])


def _trials(figures: Figures) -> Iterator[str]:
    yield "<h2>Trials</h2>"
    if not figures:
        yield "<p>No trial has a value, so there is nothing to draw.</p>"
    elif "curves" not in figures:
        yield "<p>These trials kept no learning curves.</p>"
    names = ("history", "curves", "pareto")
    yield from (figure(*figures[name]) for name in names if name in figures)


def _settings(metrics: Mapping[str, str], records: Records, figures: Figures) -> Iterator[str]:
    metric = next(iter(metrics))
    if not figures:
        return
    yield "<h2>Settings</h2>"
    if "importance" not in figures:
        why = why_not(records, metric) or "no setting explains the differences between trials"
        yield f"<p>The importance of the settings is left out: {html.escape(why)}.</p>"
    names = ("importance", "slices", "parallel")
    yield from (figure(*figures[name]) for name in names if name in figures)


def _table(metrics: Mapping[str, str], records: Records, best: int | None) -> Iterator[str]:
    order = ranked(records, metrics)
    order += [place for place in range(len(records)) if place not in order]
    columns = ["trial", "state", *map(plots.label, metrics), "epochs", "best epoch", "seconds"]
    rows = [_row(metrics, records[place], place == best) for place in order]
    yield "<h2>All trials</h2>"
    yield table("The best first", [*columns, "settings"], rows)


def _row(metrics: Mapping[str, str], record: Record, best: bool) -> Sequence[str]:
    numbers = [record["values"].get(metric) for metric in metrics]
    settings = [f"{name} = {shown(value)}" for name, value in record["params"].items()]
    text = ", ".join(settings) or "the run as it is"
    return [
        f"{record['trial']}{' (best)' if best else ''}",
        "stopped early" if record["state"] == "stopped" else record["state"],
        *("" if value is None else shown(value) for value in numbers),
        str(record.get("epochs") or ""),
        str(record.get("best_epoch") or ""),
        f"{record.get('seconds') or 0:,.1f}",
        "\n".join(filter(None, [text, record.get("reason")])),
    ]

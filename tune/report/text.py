"""A sweep as text: records of its trials, their table for a terminal, a run as TOML."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tune.report.records import Record, ranked, unbeaten
from tune.trials.trial import Directions


def record(
    config: Mapping[str, Any], metrics: Any, error: Any, directions: Directions
) -> dict[str, Any]:
    """Return the record of a trial, as plain JSON values.

    Args:
        config: the trial's number and `overrides`, and the search's parameters beside them.
        metrics: of its last report; None where there was none.
        error: of its process, if it died.
        directions: the metrics that trials are compared by.
    """
    row = dict(metrics or {})
    reason = _last_line(error) if error else row.get("failed")
    if not reason and not row.keys() >= directions.keys():
        reason = "it ended before it had reported anything"
    complete = row.get("ended") or row.get("epoch", 0) >= row.get("of", np.inf)
    state = "finished" if complete else "stopped"
    return {
        "trial": config["trial"],
        "overrides": config["overrides"],
        "params": {k: value for k, value in config.items() if k not in ("trial", "overrides")},
        "state": "failed" if reason else state,
        "values": {} if reason else {name: row[name] for name in directions},
        "curve": _curve(row, next(iter(directions))),
        "epochs": row.get("epoch", 0),
        "best_epoch": row.get("best_epoch", 0),
        "seconds": round(row.get("seconds", 0.0), 2),
        "reason": reason,
    }


def _curve(row: Mapping[str, Any], name: str) -> list[dict[str, float]]:
    return [{"epoch": epoch, name: value} for epoch, value in enumerate(row.get("curve", []), 1)]


def _last_line(error: Any) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return textwrap.shorten(line, 200)


def render(records: Sequence[Record], directions: Directions) -> str:
    """Return the trials as a table for people, the best first and the failed ones last."""
    from rich.console import Console

    console = Console(width=110)
    with console.capture() as capture:
        console.print(table(records, directions), markup=False)
    return capture.get()


def table(records: Sequence[Record], directions: Directions, title: str | None = None) -> Any:
    """Return the trials as a table of rich; with two metrics, a star marks the Pareto front."""
    from rich.table import Table

    shown = Table(title=title or f"{len(records)} trials by {' and '.join(directions)}")
    for name in ("trial", *directions, "epochs", "seconds"):
        shown.add_column(name, justify="right")
    shown.add_column("settings")
    order = ranked(records, directions)
    stars = set(unbeaten(records, directions)) if len(directions) > 1 else set()
    for place in [*order, *(p for p in range(len(records)) if p not in order)]:
        shown.add_row(*_cells(records[place], directions, place in stars))
    return shown


def _cells(row: Record, directions: Directions, star: bool) -> list[str]:
    values = [number(row["values"][name]) if row["values"] else row["state"] for name in directions]
    epochs = f"{row['epochs'] or '-'}{' stopped' * (row['state'] == 'stopped')}"
    text = "\n".join([called(row), *filter(None, [row["reason"]])])
    return [f"{row['trial']}{'*' * star}", *values, epochs, f"{row['seconds']:.1f}", text]


AS_IT_IS = "the run as it is"


def called(row: Record) -> str:
    """Return the overrides of a trial on one line."""
    return settings(row["overrides"]) or AS_IT_IS


def number(value: float) -> str:
    """Return a metric's value with as many digits as tell trials apart."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def settings(overrides: Mapping[str, Any], path: str = "") -> str:
    """Return overrides as `loss=full_softmax loss.temperature=0.05 train.epochs=3`."""
    parts = []
    for key, value in overrides.items():
        name = path if key == "name" and path else f"{path}.{key}" if path else key
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(settings(value, name) if isinstance(value, dict) else f"{name}={shown}")
    return " ".join(parts)


def toml(table: Mapping[str, Any]) -> str:
    """Return JSON values as TOML: tables of the first level as sections; None is left out."""
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    blocks = [_lines(values)]
    blocks += [f"[{_key(key)}]\n{_lines(section)}" for key, section in sections.items()]
    return "\n".join(blocks)


def _lines(values: Mapping[str, Any]) -> str:
    first = sorted(values, key=lambda key: key != "name")
    return "".join(f"{_key(k)} = {_value(values[k])}\n" for k in first if values[k] is not None)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        kept = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(kept)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)

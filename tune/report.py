"""What a sweep leaves: a record and a table of its trials, and a run as TOML."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from train.config import Run
from tune.spaces import override

Record = dict[str, Any]


def record(run: Run, config: Mapping[str, Any], metrics: Any, error: Any, metric: str) -> Record:
    """Return what is kept of a trial, as plain JSON values.

    Args:
        run: what is varied.
        config: of the trial, with its `overrides`.
        metrics: of its last report; None where there was none.
        error: what ended its process, if anything.
        metric: what trials are compared by.
    """
    row = dict(metrics or {})
    reason = _last_line(error) if error else row.get("failed")
    if not reason and metric not in row:
        reason = "it ended before its first epoch did"
    epoch, best_epoch = row.get("epoch", 0), row.get("best_epoch", 0)
    return {
        "overrides": config["overrides"],
        "state": "failed" if reason else _ending(run, config, epoch, best_epoch),
        "value": None if reason else row[metric],
        "epochs": epoch,
        "best_epoch": best_epoch,
        "seconds": round(row.get("time_total_s", 0.0), 2),
        "reason": reason,
    }


def _last_line(error: Any) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return textwrap.shorten(line, 200)


def _ending(run: Run, config: Mapping[str, Any], epoch: int, best_epoch: int) -> str:
    training = override(run, config["overrides"]).train
    whole = epoch >= training.epochs or epoch - best_epoch >= training.patience
    return "finished" if whole else "stopped"


def ranked(records: Sequence[Record]) -> list[int]:
    """Return the positions of the trials that did not fail, the best first."""
    done = [place for place, row in enumerate(records) if row["value"] is not None]
    return sorted(done, key=lambda place: -float(records[place]["value"]))


def render(records: Sequence[Record], metric: str) -> str:
    """Return the trials as a table for people, the best first and the failed ones last."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(records)} trials by validation {metric}")
    for name in ("trial", metric, "epochs", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("settings")
    order = ranked(records)
    for place in [*order, *(p for p in range(len(records)) if p not in order)]:
        row = records[place]
        value = row["state"] if row["value"] is None else f"{row['value']:.4f}"
        epochs = f"{row['epochs']}{' stopped' * (row['state'] == 'stopped')}"
        said = "\n".join([settings(row["overrides"]), *filter(None, [row["reason"]])])
        table.add_row(str(place + 1), value, epochs, f"{row['seconds']:.1f}", said)
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table, markup=False)
    return capture.get()


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

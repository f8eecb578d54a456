"""A report of `evaluate` as text for people."""

from collections.abc import Mapping
from typing import Any

from train.metrics import NAMES


def render(report: Mapping[str, Any], reranker: Mapping[str, Any] | None = None) -> str:
    """Return the report as a table for people, intervals under the means."""
    from rich.console import Console
    from rich.table import Table

    k = report["k"]
    table = Table(title=f"Test: {report['users']:,} users, {report['interactions']:,} interactions")
    table.add_column("system")
    for name in (*NAMES, "coverage"):
        table.add_column(f"{name.replace('_', ' ')}@{k}", justify="right")
    for name, metrics in report["systems"].items():
        table.add_row(name.replace("_", " "), *(_cell(metrics[m]) for m in (*NAMES, "coverage")))
    console = Console(width=122)
    with console.capture() as capture:
        console.print(table)
    return capture.get() + "\n".join(_remarks(report, reranker)) + "\n"


def _cell(value: Mapping[str, float]) -> str:
    mean = f"{value['mean']:.4f}"
    return mean if "low" not in value else f"{mean}\n[{value['low']:.3f}, {value['high']:.3f}]"


def _remarks(report: Mapping[str, Any], reranker: Mapping[str, Any] | None) -> list[str]:
    ceiling = report["recall@candidates"]
    lines = [
        f"recall@{report['candidates']} candidates (the ceiling of stage 2): {_line(ceiling)}, "
        f"of a catalogue of {report['catalogue']:,} items"
    ]
    if "gain" in report:
        lines.append(
            f"both stages over stage 1, NDCG@{report['k']}: {_line(report['gain']['ndcg'])}"
        )
    if reranker and "reason" in reranker:
        lines.append(f"no reranker: {reranker['reason']}")
    elif reranker:
        verdict = "earned its place" if reranker["earned"] else "did not earn its place: skipped"
        gain = {"mean": reranker["gain"], "low": reranker["low"], "high": reranker["high"]}
        lines.append(
            f"the reranker ({reranker['name']}) {verdict}: NDCG@10 on users of the validation "
            f"window that it had not seen {_line(gain)} above stage 1"
        )
    return lines


def _line(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"

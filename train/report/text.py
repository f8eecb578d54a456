"""The metrics of `evaluate` as tables and remarks for a terminal."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from train.metrics.ranking import NAMES
from train.report.beyond import beyond_tables, new_user_lines
from train.report.data import data_lines
from train.report.folds import fold_tables
from train.report.learned import importance_tables, picks_tables
from train.report.verdict import Rows, disagreement, gate_tables, verdict_lines, words

# Of what is written to a file; a terminal may be narrower.
WIDTH = 122
CUTS = 2  # further cuts in one table: the columns of more do not fit the width
PAIR = ("recall", "ndcg")
GROUPS = {
    "short_history": "short",
    "middle_history": "middle",
    "long_history": "long",
    "cold_users": "cold users",
    "rare_items": "rare items",
    "cold_items": "cold items",
}


def render(manifest: Mapping[str, Any]) -> str:
    """Return a manifest's metrics as tables for a terminal, and the verdict as the last line."""
    from rich.console import Console

    console = Console(width=width())
    with console.capture() as capture:
        more = *gate_tables(manifest), *picks_tables(manifest), *importance_tables(manifest)
        for one in (*tables(manifest["metrics"]), *more):
            console.print(table(*one))
    sentences = [*remarks(manifest["metrics"], manifest["reranker"]), *data_lines(manifest)]
    sentences += [*disagreement(manifest), *verdict_lines(manifest)]
    return capture.get() + "\n".join(fill(line, width()) for line in sentences) + "\n"


def width() -> int:
    """Return how wide tables may be: as the terminal that they go to, if they go to one."""
    return min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


def tables(metrics: Mapping[str, Any]) -> list[Rows]:
    """Return the title, the column names and the rows of every table."""
    # Bundles of an earlier version have the first table alone.
    if "groups" not in metrics:
        return [_accuracy(metrics)]
    more = [*metrics["more_k"]]
    further = [_further(metrics, more[at : at + CUTS]) for at in range(0, len(more), CUTS)]
    folds = fold_tables(metrics)
    beyond = [_beyond(metrics), *beyond_tables(metrics)]
    return [_accuracy(metrics), *folds, *beyond, *further, _groups(metrics)]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table for the terminal whose first column is text and whose others are numbers."""
    from rich.table import Table

    out = Table(title=title)
    for number, name in enumerate(columns):
        out.add_column(name, justify="right" if number else "left")
    for row in rows:
        out.add_row(*row)
    return out


def _accuracy(metrics: Mapping[str, Any]) -> Rows:
    k = metrics["k"]
    title = f"Test: {users_of(metrics)}, {metrics['interactions']:,} interactions"
    rows = [
        [words(name), *(cell(values[metric]) for metric in NAMES)]
        for name, values in metrics["systems"].items()
    ]
    return title, ["system", *(f"{words(name)}@{k}" for name in NAMES)], rows


def users_of(metrics: Mapping[str, Any]) -> str:
    """Return how many users a test is of, and of how many they were drawn."""
    users, every = metrics["users"], metrics.get("users_in_test", metrics["users"])
    return f"{users:,} users" + (f", drawn from {every:,}" if users < every else "")


def _beyond(metrics: Mapping[str, Any]) -> Rows:
    """Return means: novelty, coverage, accuracy with seen items, accuracy by single test pair."""
    k, part = metrics["k"], ("recall", "ndcg", "map")
    names = [f"novelty@{k}\n(bits)", f"coverage\n@{k}"]
    names += [f"all items\n{words(name)}@{k}" for name in part]
    names += [f"each pair\n{name}@{k}" for name in PAIR]

    def row(name: str) -> list[str]:
        values, everything = metrics["systems"][name], metrics["all_items"][name]
        each = metrics["per_positive"][str(k)][name]
        means = [values["coverage"], *(everything[m] for m in part), *(each[m] for m in PAIR)]
        digits = (f"{value['mean']:.4f}" for value in means)
        return [words(name), f"{values['novelty']['mean']:.2f}", *digits]

    title = "Beyond accuracy; with what the user has seen; each test pair by itself"
    return title, ["system", *names], [row(name) for name in metrics["systems"]]


def _further(metrics: Mapping[str, Any], cuts: Sequence[str]) -> Rows:
    """Return mean recall and NDCG at further cuts, by user and by single test pair."""
    parts = [(of, cut) for cut in cuts for of in ("more_k", "per_positive")]
    names = [
        f"{metric}@{cut}" if of == "more_k" else f"each pair\n{metric}@{cut}"
        for of, cut in parts
        for metric in PAIR
    ]

    def row(name: str) -> list[str]:
        values = (metrics[of][cut][name][metric]["mean"] for of, cut in parts for metric in PAIR)
        return [words(name), *(f"{value:.4f}" for value in values)]

    return "Further cuts", ["system", *names], [row(name) for name in metrics["systems"]]


def _groups(metrics: Mapping[str, Any]) -> Rows:
    """Return the NDCG of each group of the test that is not empty."""
    some = {name: of for name, of in metrics["groups"].items() if of["pairs"]}
    names = [f"{GROUPS[name]}\n{_range(of)}" for name, of in some.items()]

    def row(system: str) -> list[str]:
        means = (of["systems"][system]["ndcg"]["mean"] for of in some.values())
        return [words(system), *(f"{mean:.4f}" for mean in means)]

    rows = [["users", *(f"{of['users']:,}" for of in some.values())]]
    rows += [row(system) for system in metrics["systems"]]
    title = f"NDCG@{metrics['k']} by history length and item interactions"
    return title, ["system", *names], rows


def _range(group: Mapping[str, Any]) -> str:
    return f"{group['least']:,} to {group['most']:,}"


def cell(value: Mapping[str, float]) -> str:
    """Return a mean with four digits, and below it its interval where it has one."""
    mean = f"{value['mean']:.4f}"
    return mean if "low" not in value else f"{mean}\n[{value['low']:.3f}, {value['high']:.3f}]"


def remarks(metrics: Mapping[str, Any], reranker: Mapping[str, Any] | None) -> list[str]:
    """Return the remarks below the tables, a line each: candidates, gain, cold start, reranker."""
    ceiling = metrics["recall@candidates"]
    lines = [
        f"recall@{metrics['candidates']} candidates (the ceiling of stage 2): {line(ceiling)}, "
        f"of a catalogue of {metrics['catalogue']:,} items"
    ]
    if "gain" in metrics:
        lines.append(
            f"both stages over stage 1, NDCG@{metrics['k']}: {line(metrics['gain']['ndcg'])}"
        )
    if "groups" in metrics:
        users, items = (metrics["groups"][f"cold_{side}"] for side in ("users", "items"))
        # Bundles of an earlier version do not say whether the catalogue has such items.
        ranked = bool(metrics.get("cold_catalogue"))
        cold = "only attributes tell apart" if ranked else "no system can recommend"
        lines.append(
            f"cold in the test: {users['users']:,} users without a history, and {items['pairs']:,} "
            f"pairs with items that nobody took before, which {cold}"
        )
    lines += new_user_lines(metrics)
    if reranker and "reason" in reranker:
        lines.append(f"no reranker: {reranker['reason']}")
    elif reranker:
        verdict = "earned its place" if reranker["earned"] else "did not earn its place: skipped"
        gain = {"mean": reranker["gain"], "low": reranker["low"], "high": reranker["high"]}
        lines.append(
            f"the reranker ({reranker['name']}) {verdict}: NDCG@10 on users of the validation "
            f"window that it had not seen {line(gain)} above stage 1"
        )
    return lines


def line(value: Mapping[str, float]) -> str:
    """Return a mean and its interval in one line."""
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"

"""A report of `evaluate` as text for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.metrics.ranking import NAMES

Rows = tuple[str, list[str], list[list[str]]]
"""A table: its title, the names of its columns, and its rows."""

WIDTH = 122
CUTS = 2  # of which all columns are as wide as that
PAIR = ("recall", "ndcg")
GROUPS = {
    "short_history": "short",
    "middle_history": "middle",
    "long_history": "long",
    "cold_users": "cold users",
    "rare_items": "rare items",
    "cold_items": "cold items",
}


def render(report: Mapping[str, Any], reranker: Mapping[str, Any] | None = None) -> str:
    """Return the report as tables for people: accuracy with intervals, then the rest in short."""
    from rich.console import Console

    console = Console(width=WIDTH)
    with console.capture() as capture:
        for one in tables(report):
            console.print(table(*one))
    return capture.get() + "\n".join(remarks(report, reranker)) + "\n"


def tables(report: Mapping[str, Any]) -> list[Rows]:
    """Return the title, the names of the columns and the rows of every table of a report."""
    # Bundles of an earlier version have the first table alone.
    if "groups" not in report:
        return [_accuracy(report)]
    more = [*report["more_k"]]
    further = [_further(report, more[at : at + CUTS]) for at in range(0, len(more), CUTS)]
    return [_accuracy(report), _beyond(report), *further, _groups(report)]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table for the terminal whose first column is text and whose others are numbers."""
    from rich.table import Table

    out = Table(title=title)
    for number, name in enumerate(columns):
        out.add_column(name, justify="right" if number else "left")
    for row in rows:
        out.add_row(*row)
    return out


def _accuracy(report: Mapping[str, Any]) -> Rows:
    k = report["k"]
    title = f"Test: {report['users']:,} users, {report['interactions']:,} interactions"
    rows = [
        [words(name), *(cell(values[metric]) for metric in NAMES)]
        for name, values in report["systems"].items()
    ]
    return title, ["system", *(f"{words(name)}@{k}" for name in NAMES)], rows


def _beyond(report: Mapping[str, Any]) -> Rows:
    """Novelty and coverage, and the same with seen items, and each pair by itself: means."""
    k, part = report["k"], ("recall", "ndcg", "map")
    names = [f"novelty@{k}\n(bits)", f"coverage\n@{k}"]
    names += [f"all items\n{words(name)}@{k}" for name in part]
    names += [f"each pair\n{name}@{k}" for name in PAIR]

    def row(name: str) -> list[str]:
        values, everything = report["systems"][name], report["all_items"][name]
        each = report["per_positive"][str(k)][name]
        means = [values["coverage"], *(everything[m] for m in part), *(each[m] for m in PAIR)]
        digits = (f"{value['mean']:.4f}" for value in means)
        return [words(name), f"{values['novelty']['mean']:.2f}", *digits]

    title = "Beyond accuracy; with what the user has seen; each test pair by itself"
    return title, ["system", *names], [row(name) for name in report["systems"]]


def _further(report: Mapping[str, Any], cuts: Sequence[str]) -> Rows:
    """Recall and NDCG at further cuts, of users and of each pair by itself: means."""
    parts = [(of, cut) for cut in cuts for of in ("more_k", "per_positive")]
    names = [
        f"{metric}@{cut}" if of == "more_k" else f"each pair\n{metric}@{cut}"
        for of, cut in parts
        for metric in PAIR
    ]

    def row(name: str) -> list[str]:
        values = (report[of][cut][name][metric]["mean"] for of, cut in parts for metric in PAIR)
        return [words(name), *(f"{value:.4f}" for value in values)]

    return "Further cuts", ["system", *names], [row(name) for name in report["systems"]]


def _groups(report: Mapping[str, Any]) -> Rows:
    """NDCG of each group of the test that is not empty."""
    some = {name: of for name, of in report["groups"].items() if of["pairs"]}
    names = [f"{GROUPS[name]}\n{_range(of)}" for name, of in some.items()]

    def row(system: str) -> list[str]:
        means = (of["systems"][system]["ndcg"]["mean"] for of in some.values())
        return [words(system), *(f"{mean:.4f}" for mean in means)]

    rows = [["users", *(f"{of['users']:,}" for of in some.values())]]
    rows += [row(system) for system in report["systems"]]
    title = f"NDCG@{report['k']} by history length and item interactions"
    return title, ["system", *names], rows


def _range(group: Mapping[str, Any]) -> str:
    return f"{group['least']:,} to {group['most']:,}"


def cell(value: Mapping[str, float]) -> str:
    """Return a mean with four digits, and below it its interval where it has one."""
    mean = f"{value['mean']:.4f}"
    return mean if "low" not in value else f"{mean}\n[{value['low']:.3f}, {value['high']:.3f}]"


def words(name: str) -> str:
    """Return a name of ours as words."""
    return name.replace("_", " ")


def remarks(report: Mapping[str, Any], reranker: Mapping[str, Any] | None) -> list[str]:
    """Return what is said below the tables, a line each."""
    ceiling = report["recall@candidates"]
    lines = [
        f"recall@{report['candidates']} candidates (the ceiling of stage 2): {line(ceiling)}, "
        f"of a catalogue of {report['catalogue']:,} items"
    ]
    if "gain" in report:
        lines.append(
            f"both stages over stage 1, NDCG@{report['k']}: {line(report['gain']['ndcg'])}"
        )
    if "groups" in report:
        users, items = (report["groups"][f"cold_{side}"] for side in ("users", "items"))
        # Bundles of an earlier version do not say whether the catalogue has such items.
        ranked = bool(report.get("cold_catalogue"))
        cold = "only attributes tell apart" if ranked else "no system can recommend"
        lines.append(
            f"cold in the test: {users['users']:,} users without a history, and {items['pairs']:,} "
            f"pairs with items that nobody took before, which {cold}"
        )
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

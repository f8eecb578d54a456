"""Words and tables of the gate: what is served and why, and whether it beats the baselines."""

from collections.abc import Iterator, Mapping
from typing import Any

Rows = tuple[str, list[str], list[list[str]]]
"""A table: its title, the names of its columns, and its rows."""

# With fewer users in the test, an interval is wider than most gains.
FEW_USERS = 200
# A verdict that nobody may overlook begins so.
WARNING = "WARNING:"


def verdict_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Return whether what is served beats the best baseline, and the likely reasons if not."""
    metrics = manifest.get("metrics") or {}
    verdict = metrics.get("verdict")
    if not verdict:
        return []
    gain, k = verdict["gain"], metrics["k"]
    ours, theirs = (
        system_words(verdict["served"]),
        f"the best baseline ({words(verdict['baseline'])})",
    )
    if gain["mean"] is None or gain["mean"] != gain["mean"]:
        return [f"{ours} and {theirs} both have an NDCG@{k} of 0: nothing to compare"]
    figures = f"{_percent(gain['mean'])} [{_percent(gain['low'])}, {_percent(gain['high'])}]"
    if gain["low"] > 0:
        return [f"{ours} beats {theirs} by {figures} in NDCG@{k}"]
    why = "; ".join(_reasons(manifest))
    if gain["mean"] > 0:
        line = f"{ours} is {figures} above {theirs} in NDCG@{k}: too little to tell them apart"
        return [f"{line} ({why})" if why else line]
    worse = (
        f"{WARNING} {ours} is no better than {words(verdict['baseline'])} ({figures} in NDCG@{k})"
    )
    return [f"{worse}: serve that" + (f". Why that may be: {why}" if why else "")]


def disagreement(manifest: Mapping[str, Any]) -> list[str]:
    """Return a line where the validation users and the test prefer different systems of ours."""
    metrics, gate = manifest.get("metrics") or {}, manifest.get("gate") or {}
    systems = metrics.get("systems", {})
    ours = [name for name in systems if name in OURS or name.startswith(SOURCE)]
    served = str((metrics.get("verdict") or {}).get("served"))
    if not gate.get("ladder") or served not in ours:
        return []
    best = max(ours, key=lambda name: systems[name]["ndcg"]["mean"])
    if best == served:
        return []
    return [
        f"{system_words(served)} was chosen on {gate['users']:,} users of the validation window; "
        f"on the {metrics['users']:,} of the test {system_words(best)} has a higher mean"
    ]


def gate_tables(manifest: Mapping[str, Any]) -> Iterator[Rows]:
    """Yield the tables of the sources' contributions and of the systems that were chosen from."""
    metrics, gate = manifest.get("metrics") or {}, manifest.get("gate") or {}
    selected, test = manifest.get("contributions") or {}, metrics.get("sources") or {}
    if selected:
        columns = ["source", "recall\nvalidation", "marginal\nvalidation", "ndcg\nlost"]
        rows = [_source(name, of, test) for name, of in selected.items()]
        title = (
            f"Sources of {metrics['candidates']} candidates: recall, and what is lost without one"
        )
        yield title, [*columns, "recall\ntest", "marginal\ntest", "kept"], rows
    if len(gate.get("ladder", ())) > 1:
        title = f"Systems on {gate['users']:,} users of the validation window, the simplest first"
        columns = ["system", f"ndcg@{gate['k']}", "behind the best", "standard error", "served"]
        yield title, columns, [_rung(row, manifest) for row in gate["ladder"]]


OURS = ("stage_1", "both_stages")
SOURCE = "source_"


def system_words(name: str) -> str:
    """Return what a system of ours is, for a sentence."""
    if name.startswith(SOURCE):
        return f"the source {words(name.removeprefix(SOURCE))}"
    return {"stage_1": "stage 1", "both_stages": "the system of two stages"}.get(name, words(name))


def words(name: str) -> str:
    """Return a system's or metric's name with spaces."""
    return name.replace("_", " ")


def _reasons(manifest: Mapping[str, Any]) -> Iterator[str]:
    metrics, config = manifest["metrics"], manifest.get("config") or {}
    if metrics["users"] < FEW_USERS:
        yield f"the test has {metrics['users']:,} users, of which little can be told"
    groups = metrics.get("groups") or {}
    short = groups.get("short_history") or {}
    if short.get("most", FEW_USERS) <= 3:
        yield f"a third of its users have histories of {short['most']:,} or fewer"
    if metrics.get("interactions", 0) and not config.get("data", {}).get("items", True):
        yield "there is no item table: items have no attributes"


def _source(name: str, of: Mapping[str, Any], test: Mapping[str, Any]) -> list[str]:
    measured = test.get(name)
    on_test = [_cell(measured[key]) if measured else "" for key in ("recall", "marginal")]
    # Bundles of before had no such figure.
    order = f"{of['order']['mean']:.4f}" if "order" in of else ""
    known = [words(name), _cell(of["recall"]), _cell(of["marginal"]), order]
    return [*known, *on_test, _yes(of["kept"])]


def _rung(row: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    served = manifest["gate"]["served"]
    name = manifest["reranker"].get("name") if served == "both_stages" else served
    figures = [f"{row['ndcg']:.4f}", _cell(row["behind"]), f"{row['standard_error']:.4f}"]
    return [words(row["system"]), *figures, _yes(row["system"] == name)]


def _cell(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.4f}\n[{value['low']:.3f}, {value['high']:.3f}]"


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

"""Comparison of runs on the same test users, and the winner, if one is better than all others."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from train.bundle import evaluation_arrays
from train.bundle.bundle import check
from train.core.ragged import Array
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import NAMES
from train.report.text import cell, line, table, width
from train.report.verdict import verdict_lines, words

RESAMPLES = 5000
LEVEL = 0.95


@dataclass(frozen=True)
class Measured:
    """Test metrics of a run as it is served: of both stages if the reranker is used, else stage 1.

    Attributes:
        bundle: its folder or URI.
        manifest: of the bundle.
        system: `both_stages` or `stage_1`.
        ndcg: NDCG@k of each test user, `[V]`.
    """

    bundle: str
    manifest: Mapping[str, Any]
    system: str
    ndcg: Array


def compare(locations: Sequence[str]) -> dict[str, Any]:
    """Compare the NDCG@k of runs on the same test users.

    The run with the highest mean wins if the paired bootstrap interval of its difference to each
    other run is above 0. With n runs each interval covers `1 - 0.05 / (n - 1)`, so that all of
    them hold together with 95 % (Bonferroni).

    Args:
        locations: folders or URIs of bundles or runs, two or more.

    Returns:
        `k`, `users`, `interactions` and `test_sha256` of the test; `runs` (`name`, `version`,
        `bundle`, `system`, `metrics`, and `verdict`: lines about each one's own baselines);
        `best`, a name; `differences` of it to each other run (mean, low, high) and their `level`;
        and `winner`, a name or None.

    Raises:
        ValueError: fewer than two runs, the same one twice, or runs of different tests.
        BundleError: a bundle is missing or damaged, or has no metrics by user.
    """
    if len(locations) < 2:
        raise ValueError(f"compare needs two runs or more, got {len(locations)}")
    runs = [_read(location) for location in locations]
    _check_same_test(runs)
    names = _names(runs)
    # Exactly rounded sums: runs with the same values in another order are equal, and stay in the
    # order given.
    by_mean = sorted(range(len(runs)), key=lambda number: -math.fsum(runs[number].ndcg))
    level = 1 - (1 - LEVEL) / (len(runs) - 1)
    best, *others = by_mean
    differences = {
        names[number]: _difference(runs[best].ndcg - runs[number].ndcg, level) for number in others
    }
    test = runs[0].manifest["metrics"]
    return {
        **{key: test[key] for key in ("k", "users", "interactions", "test_sha256")},
        "runs": [_facts(names[number], runs[number]) for number in by_mean],
        "best": names[best],
        "level": level,
        "differences": differences,
        "winner": names[best] if all(d["low"] > 0 for d in differences.values()) else None,
    }


def _read(location: str) -> Measured:
    place, manifest = check(location)
    arrays = evaluation_arrays.read(place, manifest)
    system = _served(manifest, arrays)
    return Measured(place, manifest, system, arrays[f"ndcg.{system}"])


def _served(manifest: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """Return the system that answers requests; bundles before format 6 have no verdict."""
    verdict = manifest["metrics"].get("verdict")
    if verdict:
        return str(verdict["served"])
    reranked = manifest["reranker"].get("earned") and "ndcg.both_stages" in arrays
    return "both_stages" if reranked else "stage_1"


def _check_same_test(runs: Sequence[Measured]) -> None:
    first = runs[0]
    for other in runs[1:]:
        tests = [run.manifest["metrics"] for run in (first, other)]
        if all(tests[0][key] == tests[1][key] for key in ("test_sha256", "k")):
            continue
        sizes = [f"{t['users']:,} users, {t['interactions']:,} pairs, k {t['k']}" for t in tests]
        changed = ", ".join(_changed(first.manifest["config"], other.manifest["config"]))
        raise ValueError(
            f"{first.bundle} ({sizes[0]}) and {other.bundle} ({sizes[1]}) were measured on "
            "different tests; compare runs of the same data, split and k "
            f"(what differs: {changed or 'the data'})"
        )


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys of two configurations that define the test and differ."""
    keys = [(part, key) for part in ("data", "split") for key in {**one[part], **other[part]}]
    keys.append(("evaluation", "k"))
    return [f"{part}.{key}" for part, key in keys if one[part].get(key) != other[part].get(key)]


def _names(runs: Sequence[Measured]) -> list[str]:
    """Return the display name of each run: its name, with the version where names repeat."""
    count = Counter(run.manifest["name"] for run in runs)
    names = [
        run.manifest["name"]
        + (f" {run.manifest['version']}" if count[run.manifest["name"]] > 1 else "")
        for run in runs
    ]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"compare was given the same bundle twice: {', '.join(twice)}")
    return names


def _difference(values: Array, level: float) -> dict[str, float]:
    mean, low, high = bootstrap(values, RESAMPLES, level=level)
    return {"mean": mean, "low": low, "high": high}


def _facts(name: str, run: Measured) -> dict[str, Any]:
    metrics = run.manifest["metrics"]["systems"][run.system]
    version = run.manifest["version"]
    return {
        "name": name,
        "version": version,
        "bundle": run.bundle,
        "system": run.system,
        "metrics": metrics,
        "verdict": verdict_lines(run.manifest),
    }


def render(comparison: Mapping[str, Any]) -> str:
    """Return a comparison as a table for people, the best run first."""
    from rich.console import Console

    k, console = comparison["k"], Console(width=width())
    rows = [
        [f"{run['name']}\n({words(run['system'])})", *(cell(run["metrics"][m]) for m in NAMES)]
        for run in comparison["runs"]
    ]
    users = f"the same {comparison['users']:,} users"
    title = f"{len(comparison['runs'])} runs, as they are served, on {users}"
    with console.capture() as capture:
        console.print(table(title, ["run", *(f"{words(name)}@{k}" for name in NAMES)], rows))
    own = [f"{run['name']}: {said}" for run in comparison["runs"] for said in run["verdict"]]
    lines = (fill(said, width()) for said in (*own, *_verdict(comparison)))
    return capture.get() + "\n".join(lines) + "\n"


def _verdict(comparison: Mapping[str, Any]) -> list[str]:
    best, level = comparison["best"], f"{100 * comparison['level']:.1f} %".replace(".0 %", " %")
    lines = [
        f"{best} over {other}, NDCG@{comparison['k']} of the same users: {line(value)} ({level})"
        for other, value in comparison["differences"].items()
    ]
    if comparison["winner"]:
        return [*lines, f"winner: {best}"]
    differences = comparison["differences"].items()
    near = [other for other, value in differences if value["low"] <= 0]
    return [*lines, f"no winner: {best} is not clearly better than {', '.join(near)}"]

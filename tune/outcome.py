"""The outcome of a sweep: its best run, and how sure it is that this one is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster import storage
from train.config import Run
from train.core.ragged import Array
from train.datasets.base import PLACES
from train.metrics.bootstrap import bootstrap
from train.run_files import is_inside, presets
from tune.config import Sweep
from tune.report.records import Record, ranked, unbeaten
from tune.report.text import AS_IT_IS, called, number, toml
from tune.search import SearchResult, kept, sweep_folder
from tune.space.draws import override

BEST = "best.toml"


@dataclass(frozen=True)
class Outcome:
    """The winner of a sweep.

    Attributes:
        best: number of the best trial, from 1.
        run: the best trial as a run, under the name of the sweep.
        lines: sentences for people.
    """

    best: int
    run: Run
    lines: list[str]


def outcome(sweep: Sweep, run: Run, result: SearchResult) -> Outcome:
    """Name the best trial, compare it with the runner-up and the run as it is, write `BEST`.

    Args:
        sweep: the settings of the sweep.
        run: the base run, `sweep.base()`.
        result: of `tune.search.search`.

    Raises:
        ValueError: all trials failed.
    """
    order = ranked(result.records, sweep.directions())
    if not order:
        first = result.records[0]["reason"] if result.records else "none had ended"
        raise ValueError(f"all {len(result.records)} trials failed; the first: {first}")
    top = result.records[order[0]]
    best = override(run, top["overrides"] | {"name": f"{sweep.name}-best"})
    text = toml(_as_file(sweep, run, best))
    storage.write_bytes(storage.join(sweep_folder(sweep, run), BEST), text.encode())
    lines = [*_winner(sweep, result.records, order), *_compared(sweep, run, result, order)]
    return Outcome(top["trial"], best, lines)


def _as_file(sweep: Sweep, run: Run, best: Run) -> dict[str, Any]:
    """Return a run file of the winner: what it extends, and what differs.

    It is whole where the base run has a value that is left open in the winner, which TOML cannot
    say.
    """
    differs = differing(run.table(), best.table())
    differs["storage"] = storage.absolute(best.storage)
    if not _has_none(differs):
        is_preset = sweep.run in presets()
        return {"extends": sweep.run if is_preset else storage.absolute(sweep.run), **differs}
    table = best.table()
    data = {key: _placed(key, value) for key, value in table["data"].items()}
    return {**table, "storage": differs["storage"], "data": data}


def _placed(key: str, value: Any) -> Any:
    """Return a path that is found from every folder; the file lies elsewhere than the run's."""
    is_place = key in PLACES and isinstance(value, str) and not is_inside(key, value)
    return storage.absolute(value) if is_place else value


def differing(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a table that differ from a base; a table of another name is whole."""
    found: dict[str, Any] = {}
    for key in [*table, *(key for key in base if key not in table)]:
        old, new = base.get(key), table.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name"):
            # The base's file may leave the name of a table to the defaults.
            named = {"name": new["name"]} if "name" in new else {}
            found[key] = {**named, **differing(old, new)}
        else:
            found[key] = new
    return found


def _has_none(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_none, value.values()))
    return value is None


def _winner(sweep: Sweep, records: Sequence[Record], order: Sequence[int]) -> list[str]:
    directions = sweep.directions()
    top = records[order[0]]
    values = ", ".join(f"{name} {number(top['values'][name])}" for name in directions)
    lines = [
        f"Trial {top['trial']} is the best by {next(iter(directions))}: {values} ({called(top)})."
    ]
    if len(directions) > 1:
        numbers = ", ".join(str(records[at]["trial"]) for at in unbeaten(records, directions))
        names = " or ".join(directions)
        lines.append(f"No other trial is better in {names} without loss: trials {numbers}.")
    return lines


def _compared(sweep: Sweep, run: Run, result: SearchResult, order: Sequence[int]) -> list[str]:
    """Return how the winner compares on the validation users."""
    if sweep.subject.users is None or next(iter(sweep.directions())) != "ndcg":
        return []
    top = _users(sweep, run, result, order[0])
    others = {at: f"trial {result.records[at]['trial']}, the runner-up" for at in order[1:2]}
    as_it_is = [at for at in order[1:] if not result.records[at]["overrides"]]
    others |= dict.fromkeys(as_it_is, AS_IT_IS)
    lines = [_difference(top, _users(sweep, run, result, at), who) for at, who in others.items()]
    if lines:
        lines.append(
            "The winner was picked on these validation users, so its own figures are on the high "
            "side; the test users are the fair ones."
        )
    return lines


def _users(sweep: Sweep, run: Run, result: SearchResult, position: int) -> Array:
    """Return the NDCG@10 of each validation user, `[V]`, the mean over the seeds of a trial."""
    measure = sweep.subject.users
    assert measure is not None
    varied = override(run, result.records[position]["overrides"])
    seeds = [
        measure(result.shared, varied.model_copy(update={"seed": varied.seed + number}), weights)
        for number, weights in enumerate(kept(result, position))
    ]
    mean: Array = np.mean(seeds, axis=0)
    return mean


def _difference(top: Array, other: Array, who: str) -> str:
    mean, low, high = bootstrap(top - other)
    users = np.count_nonzero(~np.isnan(top - other))
    verdict = "better" if low > 0 else "worse" if high < 0 else "not told apart"
    return (
        f"Against {who}: NDCG@10 {mean:+.4f} [{low:+.4f}, {high:+.4f}] over {users:,} validation "
        f"users, {verdict}."
    )


def tested(metrics: Mapping[str, Any]) -> str:
    """Return a sentence with the winner's NDCG on the test, from the metrics in its manifest."""
    systems = metrics["systems"]
    values = [
        f"{name.replace('_', ' ')} {ndcg['mean']:.4f} [{ndcg['low']:.4f}, {ndcg['high']:.4f}]"
        for name in ("stage_1", "both_stages")
        if name in systems
        for ndcg in [systems[name]["ndcg"]]
    ]
    return f"The test, looked at once and for the winner alone: NDCG@10 {', '.join(values)}."


NOT_TESTED = "No trial has seen the test; fitting the winner measures it, once."

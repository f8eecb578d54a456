"""What a sweep came to: its best run, and how sure it is that this one is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster import storage
from train.config import Run
from train.core.ragged import Array
from train.metrics.bootstrap import bootstrap
from tune.config import Sweep
from tune.report.records import ranked, unbeaten
from tune.report.text import AS_IT_IS, Record, called, number, toml
from tune.search import Found, kept, place
from tune.space.draws import override

BEST = "best.toml"


@dataclass(frozen=True)
class Outcome:
    """The end of a sweep.

    Attributes:
        best: number of the best trial, from 1.
        run: it as a run, under the name of the sweep.
        lines: for people, a sentence each.
    """

    best: int
    run: Run
    lines: list[str]


def outcome(sweep: Sweep, run: Run, found: Found) -> Outcome:
    """Name the best trial, compare it with the runner-up and the run as it is, write `BEST`.

    Args:
        sweep: what was varied.
        run: the run as it is, `sweep.base()`.
        found: by `tune.search.search`.

    Raises:
        ValueError: all trials failed.
    """
    order = ranked(found.records, sweep.directions())
    if not order:
        first = found.records[0]["reason"] if found.records else "none had ended"
        raise ValueError(f"all {len(found.records)} trials failed; the first: {first}")
    top = found.records[order[0]]
    best = override(run, top["overrides"] | {"name": f"{sweep.name}-best"})
    storage.write_bytes(storage.join(place(sweep, run), BEST), toml(best.table()).encode())
    lines = [*_winner(sweep, found.records, order), *_compared(sweep, run, found, order)]
    return Outcome(top["trial"], best, lines)


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


def _compared(sweep: Sweep, run: Run, found: Found, order: Sequence[int]) -> list[str]:
    """Return how the winner compares on the validation users."""
    if sweep.subject.users is None or next(iter(sweep.directions())) != "ndcg":
        return []
    top = _users(sweep, run, found, order[0])
    others = {at: f"trial {found.records[at]['trial']}, the runner-up" for at in order[1:2]}
    as_it_is = [at for at in order[1:] if not found.records[at]["overrides"]]
    others |= dict.fromkeys(as_it_is, AS_IT_IS)
    lines = [_difference(top, _users(sweep, run, found, at), who) for at, who in others.items()]
    if lines:
        lines.append(
            "The winner was picked on these validation users, so its own figures are on the high "
            "side; the test users are the fair ones."
        )
    return lines


def _users(sweep: Sweep, run: Run, found: Found, position: int) -> Array:
    """Return the NDCG@10 of each validation user, `[V]`, the mean over the seeds of a trial."""
    measure = sweep.subject.users
    assert measure is not None
    one = override(run, found.records[position]["overrides"])
    seeds = [
        measure(found.shared, one.model_copy(update={"seed": one.seed + number}), rest)
        for number, rest in enumerate(kept(found, position))
    ]
    mean: Array = np.mean(seeds, axis=0)
    return mean


def _difference(top: Array, other: Array, who: str) -> str:
    mean, low, high = bootstrap(top - other)
    counted = np.count_nonzero(~np.isnan(top - other))
    told = "better" if low > 0 else "worse" if high < 0 else "not told apart"
    return (
        f"Against {who}: NDCG@10 {mean:+.4f} [{low:+.4f}, {high:+.4f}] over {counted:,} validation "
        f"users, {told}."
    )


def tested(metrics: Mapping[str, Any]) -> str:
    """Return what a bundle's test said of the winner, from the metrics in its manifest."""
    systems = metrics["systems"]
    values = [
        f"{name.replace('_', ' ')} {one['mean']:.4f} [{one['low']:.4f}, {one['high']:.4f}]"
        for name in ("stage_1", "both_stages")
        if name in systems
        for one in [systems[name]["ndcg"]]
    ]
    return f"The test, looked at once and for the winner alone: NDCG@10 {', '.join(values)}."


NOT_TESTED = "No trial has seen the test; fitting the winner measures it, once."

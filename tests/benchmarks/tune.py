"""Sweeps: two trials at once against one, what a trial costs beside training, search or chance.

Run as `python -m tests.benchmarks.tune [throughput|overhead|search ...]`. Trials train on generated
data with one thread each. Ray is started once and is in none of the times; what a sweep needs
before its first trial and after its last one is.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.session import connect
from tests.benchmarks.quality import commit
from train.config import Run
from train.run_files import read_table
from tune.config import Sweep
from tune.report.records import Record, ranked
from tune.search import search

TABLE = Path(__file__).with_name("tune.md")
SECONDS = 60
DATA = {"name": "generated", "users": 4000, "items": 1000, "interactions": 120_000}
# Small enough that a sweep of a minute has dozens of trials, beyond the first ones of any search.
SEARCHED = {"name": "generated", "users": 1000, "items": 400, "interactions": 24_000}
SMALL = {"name": "generated", "users": 200, "items": 100, "interactions": 4000}
TRAIN = {"workers": 0, "batch_size": 256, "epochs": 9, "patience": 9}
TOWER = {"name": "two_tower", "width": 16, "history": 50}
# The run that is searched from is nobody's best: where it were, both ways would only find it again.
UNTUNED = {**TRAIN, "learning_rate": 3e-4, "weight_decay": 5}
SPACE: dict[str, Any] = {
    "train.learning_rate": {"loguniform": [1e-4, 0.3]},
    "train.weight_decay": {"loguniform": [1e-3, 10]},
    "tower.width": {"int": [2, 64]},
    "loss": {
        "choice": [
            {"name": "in_batch_softmax", "temperature": {"loguniform": [0.05, 20]}},
            {"name": "sampled_softmax", "temperature": {"loguniform": [0.05, 20]}},
            {"name": "bpr", "count": {"int": [1, 32]}},
            {"name": "triplet", "margin": {"loguniform": [0.01, 10]}},
        ]
    },
}


def sweep(storage: str, name: str, run: Run, **changes: Any) -> tuple[list[Record], float]:
    """Return the records of a sweep's trials, and the seconds from its start to its end."""
    table = {"name": name, "run": "measured here", "space": SPACE} | changes
    here = run.model_copy(update={"storage": storage})
    begun = time.monotonic()
    records = search(Sweep.model_validate(table), here).records
    return records, time.monotonic() - begun


def throughput(storage: str) -> None:
    """Time the same 8 trials, one at a time and two at once."""
    run = Run.model_validate({"data": DATA, "tower": TOWER, "train": TRAIN})
    fixed = {"trials": 8, "search": "random", "scheduler": "none"}
    seconds = {}
    for at_once in (1, 2):
        name = f"at-once-{at_once}"
        records, seconds[at_once] = sweep(storage, name, run, trials_at_once=at_once, **fixed)
        trained = sum(row["seconds"] for row in records)
        print(f"{at_once} at once: {seconds[at_once]:.1f} s, of which in trials {trained:.1f} s")
    print(f"ratio 2 at once / 1 at once, 8 trials (target 0.65): {seconds[2] / seconds[1]:.2f}")


def overhead(storage: str, trials: int = 21) -> None:
    """Time trials of one epoch over next to nothing."""
    run = Run.model_validate({"data": SMALL, "train": {"workers": 0, "epochs": 1}})
    space = {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}
    alone = {"search": "random", "scheduler": "none", "trials_at_once": 1, "space": space}
    _, first = sweep(storage, "one-trial", run, trials=1, **alone)
    records, whole = sweep(storage, "many-trials", run, trials=trials, **alone)
    each = (whole - first) / (trials - 1)
    within = sum(row["seconds"] for row in records[1:]) / (trials - 1)
    print(f"a sweep of one trial: {first:.1f} s (data, Tune's start, a process, records)")
    print(f"each further trial: {each:.2f} s, of which in the trial's process {within:.2f} s")
    print(f"ratio of it to a trial of {SECONDS} s (target 0.15): {each / SECONDS:.3f}")


def found(storage: str, seeds: int = 5, seconds: float = 75) -> None:
    """Search the preset `both` with TPE and ASHA, and at random without stopping, for as long."""
    run = Run.model_validate({"data": SEARCHED, "tower": TOWER, "train": UNTUNED})
    space = read_table("both", "tune")["space"]
    ways: dict[str, dict[str, Any]] = {
        "tpe, asha": {"search": "tpe", "scheduler": "asha", "grace_epochs": 1},
        "random, none": {"search": "random", "scheduler": "none"},
    }
    rows = []
    for seed in range(seeds):
        best = {}
        for way, settings in ways.items():
            name = f"search-{seed}-{settings['search']}"
            budget = {"hours": seconds / 3600, "trials_at_once": 2, "seed": seed, "space": space}
            records, _ = sweep(storage, name, run, **budget, **settings)
            best[way] = records[ranked(records, {"ndcg": "max"})[0]]["values"]["ndcg"]
            rows.append([str(seed), way, str(len(records)), f"{best[way]:.4f}"])
            print("  ".join(rows[-1]), flush=True)
        rows[-1].append("tpe, asha" if best["tpe, asha"] > best["random, none"] else "random, none")
    won = sum(row[-1] == "tpe, asha" for row in rows if len(row) == 5)
    print(f"ratio seeds where TPE with ASHA found the better one (target 0.8): {won / seeds:.2f}")
    write(rows, seconds)


def write(rows: list[list[str]], seconds: float) -> None:
    """Write the table of what was found."""
    head = ["| seed | search | trials | best validation NDCG@10 | better |", f"|{'---|' * 5}"]
    body = [f"| {' | '.join(row + [''] * (5 - len(row)))} |" for row in rows]
    text = (
        f"# Search against chance\n\nWritten by `python -m tests.benchmarks.tune search` at "
        f"{commit()}: the preset `both` on generated "
        f"data, {seconds:g} s a sweep, two trials at once.\n\n"
    )
    TABLE.write_text(text + "\n".join([*head, *body]) + "\n")


PARTS = {"throughput": throughput, "overhead": overhead, "search": found}


def main(words: list[str] | None = None) -> None:
    """Measure the named parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    logging.basicConfig(level=logging.WARNING)
    connect("local", num_cpus=2)
    with tempfile.TemporaryDirectory() as storage:
        for name in parser.parse_args(words).parts or PARTS:
            print(f"{name}:", flush=True)
            PARTS[name](storage)


if __name__ == "__main__":
    main(sys.argv[1:])

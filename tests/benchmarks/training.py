"""Examples/s through Ray Train: 1 worker against the loop alone, and 2 workers against 1.

Run as `python -m tests.benchmarks.training`. All train the same towers by the same steps, with one
thread a process: 1 worker takes batches of 2 B, 2 workers of B each. The time is the loop's own,
the seconds of the median epoch but the first, without starting Ray, validating and writing
checkpoints. Rounds take turns, so that a machine that changes its speed is seen, and the ratios
are medians over them. What the machine could give at best is the last ratio: two loops of B each
side by side, without Ray, that share nothing but the machine and average no gradients.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn

from cluster.session import connect
from tests.training import gloo_worker, read_curve
from train.core.schema import Interactions
from train.data.encoded import encode
from train.data.snapshot import TowerInputs, snapshot
from train.datasets.generated import Generated
from train.losses.softmax import InBatchSoftmax
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Training, Worker
from train.trainer.loop import train
from train.trainer.workers import train_on_ray

EXAMPLES = 100_000
DATA = Generated(users=20_000, items=5_000, interactions=400_000)


def main(words: list[str] | None = None) -> None:
    """Measure all four in turn, several times, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1024, 2048, 4096], help="sizes B"
    )
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    data = encode(DATA.load())
    now = int(data.interactions.timestamp.max()) + 1
    known = snapshot(data, data.interactions.timestamp < now, now, 7)
    connect("local", num_cpus=2)
    print(f"{DATA.users:,} users, {DATA.items:,} items, {EXAMPLES:,} examples an epoch")
    for batch in given.batches:
        print(f"B = {batch}")
        one = job(known.inputs, known.interactions, 1, 2 * batch, given.epochs)
        two = job(known.inputs, known.interactions, 2, batch, given.epochs)
        compare(one, two, batch, given.rounds)


def compare(one: Job, two: Job, batch: int, rounds: int) -> None:
    """Run 1 worker, 2 workers and the loops without Ray in turn, and print the ratios."""
    runs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "the loop alone": lambda: train(one, Worker())["curve"],
        "Ray, 1 worker": lambda: on_ray(one),
        "Ray, 2 workers": lambda: on_ray(two),
        "two loops apart": lambda: apart(two),
    }
    found = [{name: rate(name, run(), batch) for name, run in runs.items()} for _ in range(rounds)]
    show(found, batch, "Ray, 1 worker", "the loop alone", "(target 0.95)")
    show(found, batch, "Ray, 2 workers", "Ray, 1 worker", "(target 1.5)")
    show(found, batch, "two loops apart", "the loop alone", "(what the machine has)")


def job(
    inputs: TowerInputs, interactions: Interactions, workers: int, batch: int, epochs: int
) -> Job:
    training = Training(
        workers=workers, threads=1, batch_size=batch, epochs=epochs, epoch_examples=EXAMPLES
    )
    return Job(
        TwoTower(user_id=False),
        InBatchSoftmax(),
        training,
        0,
        inputs,
        interactions,
        stop_after=epochs,
    )


def on_ray(job: Job) -> list[dict[str, Any]]:
    """Return the curve of a job on Ray workers."""
    with tempfile.TemporaryDirectory() as folder:
        curve: list[dict[str, Any]] = train_on_ray({"run": job}, folder)["run"]["curve"]
    return curve


def apart(job: Job) -> list[dict[str, Any]]:
    """Return the curve of the first of two processes that train without averaging gradients."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(gloo_worker, (2, [job], folder, False), nprocs=2)
        return read_curve(Path(folder), 0)


def rate(name: str, curve: list[dict[str, Any]], batch: int) -> float:
    """Return the examples/s of a run's median epoch, and print them."""
    steps = EXAMPLES // (2 * batch)
    found = float(steps * 2 * batch / median(row["seconds"] for row in curve[1:]))
    losses = ", ".join(f"{row['loss']:.4f}" for row in curve)
    print(
        f"{name:16} {found:9,.0f} examples/s, {2e3 * batch / found:5.1f} ms a step; "
        f"losses {losses}",
        flush=True,
    )
    return found


def show(rounds: list[dict[str, float]], batch: int, name: str, against: str, remark: str) -> None:
    """Print the median ratio of two runs and the ratio of each round."""
    ratios = [rates[name] / rates[against] for rates in rounds]
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"ratio  {name} / {against}, B = {batch}  {median(ratios):.2f} {remark}; rounds {each}")


if __name__ == "__main__":
    main()

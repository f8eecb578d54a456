"""Examples/s through Ray Train: 1 worker against the loop alone, and 2 workers against 1.

Run as `python -m tests.benchmarks.training`. All train the same towers by the same steps, with one
thread a process: 1 worker takes batches of 2 B, 2 workers of B each. The time is the loop's own,
the seconds of the median epoch but the first, without starting Ray, validating and writing
checkpoints; how long all of it took stands beside it. The loop alone runs before and after, so
that a machine that changes its speed is seen.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from cluster.session import connect
from train.datasets import Generated
from train.features import encode
from train.loop import Job, Training, World, train
from train.losses import InBatchSoftmax
from train.schema import Interactions
from train.snapshot import snapshot
from train.towers import TowerInputs, TwoTower
from train.workers import train_on_ray

BATCH, EXAMPLES = 1024, 100_000
DATA = Generated(users=20_000, items=5_000, interactions=400_000)


def main(words: list[str] | None = None) -> None:
    """Measure the four runs, in turn, and print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args(words).epochs
    torch.set_num_threads(1)
    data = encode(DATA.load())
    now = int(data.interactions.timestamp.max()) + 1
    known = snapshot(data, data.interactions.timestamp < now, now, 7)
    one = job(known.inputs, known.interactions, 1, 2 * BATCH, epochs)
    two = job(known.inputs, known.interactions, 2, BATCH, epochs)
    connect("local", num_cpus=2)
    print(f"{DATA.users:,} users, {DATA.items:,} items, {EXAMPLES:,} examples an epoch")
    before = measure("the loop alone", lambda: train(one, World()))
    with tempfile.TemporaryDirectory() as folder:
        single = measure("Ray, 1 worker", lambda: train_on_ray(one, folder, "one"))
        double = measure("Ray, 2 workers", lambda: train_on_ray(two, folder, "two"))
    after = measure("the loop alone, again", lambda: train(one, World()))
    alone = (before + after) / 2
    print(f"ratio  Ray Train with 1 worker / the loop alone  {single / alone:.2f} (target 0.95)")
    print(f"ratio  2 workers / 1 worker  {double / single:.2f} (target 1.5)")


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


def measure(name: str, run: Callable[[], dict[str, Any]]) -> float:
    """Return the examples/s of a run's median epoch, and print them."""
    began = time.perf_counter()
    curve = run()["curve"]
    wall = time.perf_counter() - began
    seconds = [row["seconds"] for row in curve]
    rate = float(EXAMPLES // (2 * BATCH) * (2 * BATCH) / median(seconds[1:]))
    losses = ", ".join(f"{row['loss']:.4f}" for row in curve)
    print(
        f"{name:22} {rate:9,.0f} examples/s; {wall:.0f} s in all, {sum(seconds):.0f} s of it in "
        f"the loop; losses {losses}",
        flush=True,
    )
    return rate


if __name__ == "__main__":
    main()

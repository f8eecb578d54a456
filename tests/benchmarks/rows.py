"""A step of towers over large id tables: by rows against AdamW over everything.

Run as `python -m tests.benchmarks.rows [--rows N ...]`. Users and items together have so many ids
of width 64; examples are drawn evenly, in batches of 1,024, without histories. It prints
examples/s, the bytes that a step has to read and write at least, and ratios: by rows against AdamW;
a step over the largest tables against one over the smallest, which is to cost the same; two
workers of one thread each, with half of the batch each, against one.
With `--torchrec`, where fbgemm-gpu-cpu is installed, the tables that TorchRec has on CPUs are
stepped too, by their fused row-wise Adagrad.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.spawn import spawn

from tests.training import gloo_worker, read_curve
from train.core.features import Features
from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.losses.softmax import InBatchSoftmax
from train.towers.two_tower import TwoTower
from train.trainer.epoch import Setup, train_epoch
from train.trainer.job import Job, Training, Worker

WIDTH, STEPS = 64, 100


def main() -> None:
    """Time an epoch of each, after one that warms up."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--history", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--torchrec", action="store_true")
    given = parser.parse_args()
    took: dict[tuple[str, int], float] = {}
    for rows in given.rows:
        job = job_over(rows, given.batch, given.history)
        for name in ("adamw", "rowwise_adam"):
            took[name, rows] = seconds(_with(job, name))
        if given.torchrec:
            took["torchrec", rows] = torchrec_seconds(job)
        for name in [of for of, n in took if n == rows]:
            told = f"{given.batch * STEPS / took[name, rows]:10,.0f} examples/s"
            print(f"{rows:10,} rows  {name:13}{told}", flush=True)
    least, most = min(given.rows), max(given.rows)
    by_rows, dense = took["rowwise_adam", most], took["adamw", most]
    floor = given.batch * 2 * WIDTH * 4 * 2 * STEPS
    print(f"{floor / STEPS / 1e6:.2f} MB of rows are read and written in a step")
    print(f"ratio  {dense / by_rows:6.1f} x faster by rows than AdamW, of {most:,} rows")
    print(
        f"ratio  {by_rows / took['rowwise_adam', least]:6.2f} of a step's time, {most:,} rows "
        f"against {least:,}"
    )
    one, two = (workers_seconds(job_over(most, given.batch, given.history, n), n) for n in (1, 2))
    print(f"ratio  {one / two:6.2f} x faster by two workers than by one (target 1.5)")
    if given.torchrec:
        print(f"ratio  {by_rows / took['torchrec', most]:6.2f} of TorchRec's time (target 1.2)")


def job_over(rows: int, batch: int, history: int, workers: int = 1) -> Job:
    """Return a job whose ids are drawn evenly: half of the rows are users."""
    draw, half, count = np.random.default_rng(0), rows // 2, 4 * batch * STEPS
    user, item = (np.sort(draw.integers(half, size=count)), draw.integers(half, size=count))
    known = Interactions.ordered(user, item, np.arange(count), np.ones(count))
    ones = np.ones(half, dtype=bool)
    inputs = TowerInputs(Features.empty(half), Features.empty(half), ones, ones)
    training = Training(
        batch_size=batch // workers,
        workers=workers,
        threads=1,
        epochs=4,
        epoch_examples=batch * STEPS,
        learning_rate=1e-3,
        weight_decay=0.1,
        context_length=max(1, history),
    )
    tower = TwoTower(width=WIDTH, history=history)
    return Job(tower, InBatchSoftmax(), training, 0, inputs, known)


def _with(job: Job, optimizer: Any) -> Job:
    return replace(job, training=job.training.model_copy(update={"optimizer": optimizer}))


def seconds(job: Job) -> float:
    """Return the seconds of the faster of two epochs after the first."""
    worker = Worker()
    model = job.tower.build(job.inputs)
    setup = Setup.of(job, worker, model)
    return _faster(lambda epoch: train_epoch(setup, epoch))


def workers_seconds(job: Job, workers: int) -> float:
    """Return the seconds of the fastest epoch but the first, of so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [_with(job, "rowwise_adam")]
        spawn(gloo_worker, args=(workers, jobs, folder), nprocs=workers)
        return float(min(row["seconds"] for row in read_curve(Path(folder), 0)[1:]))


def _faster(epoch: Callable[[int], Any]) -> float:
    epoch(0)
    took = []
    for number in (1, 2):
        begun = time.perf_counter()
        epoch(number)
        took.append(time.perf_counter() - begun)
    return min(took)


def torchrec_seconds(job: Job) -> float:
    """Return what the same steps take with TorchRec's tables and its fused row-wise Adagrad."""
    # Not among the dependencies: it is installed for this alone.
    configs, common, ops = (
        import_module(f"fbgemm_gpu.split_{name}")
        for name in (
            "embedding_configs",
            "table_batched_embeddings_ops_common",
            "table_batched_embeddings_ops_training",
        )
    )
    host, cpu = common.EmbeddingLocation.HOST, ops.ComputeDevice.CPU
    sides = [len(job.inputs.warm_users), len(job.inputs.warm_items)]
    tables = ops.SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, WIDTH, host, cpu) for rows in sides],
        optimizer=configs.EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=1e-3,
    )
    tables.init_embedding_weights_uniform(-0.1, 0.1)
    users, items = torch.from_numpy(job.interactions.user), torch.from_numpy(job.interactions.item)
    size = job.schedule.batch_size
    offsets = torch.arange(2 * size + 1)

    def epoch(number: int) -> None:
        order = torch.randperm(len(users), generator=torch.Generator().manual_seed(number))
        for step in range(STEPS):
            index = order[step * size : (step + 1) * size]
            asked = torch.cat([users[index], items[index]]).long()
            found = tables(asked, offsets)
            scores = found[:, :WIDTH] @ found[:, WIDTH:].T
            torch.nn.functional.cross_entropy(scores, torch.arange(size)).backward()

    return _faster(epoch)


if __name__ == "__main__":
    main()

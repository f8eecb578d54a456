"""Our towers beside RecTools' and RecBole's nearest models: examples/s, quality for the same time.

`python -m tests.benchmarks.others --data FOLDER [--rectools PYTHON] [--recbole PYTHON]`: FOLDER has
`ml-1m.zip`, and each PYTHON is an interpreter that has that library; ours need neither.

All train on MovieLens-1M but each user's newest rating, with the same width, length, batch size and
learning rate, then write ten items a user; one function of ours measures them. Seconds are those
that a process computed on one thread, so that what else the machine does stretches nobody's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.cli import run
from train.core.ragged import Array
from train.data.encoded import encode
from train.data.snapshot import Holdout, Snapshot, held_out, snapshot
from train.data.splits.leave_last import LeaveLast
from train.datasets.movielens import MovieLens1M
from train.losses.base import Loss
from train.losses.pairwise import BPR
from train.losses.softmax import FullSoftmax, SampledSoftmax
from train.metrics.ranking import per_user
from train.towers.base import Tower
from train.towers.batches import windows
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.towers.history_transformer import HistoryTransformer
from train.towers.two_tower import TwoTower
from train.trainer.checkpoint import State
from train.trainer.examples import examples, steps_per_epoch
from train.trainer.job import Job, Training, Worker
from train.trainer.loop import train

K, RATE = 10, 2e-3
SHAPE: dict[str, Any] = {"width": 64, "history": 100, "blocks": 2, "heads": 2}
COLUMNS = ("system", "examples/s", "epochs", "seconds", "NDCG@10", "HR@10")


@dataclass(frozen=True)
class Data:
    """What is learned from, and what each user took next."""

    known: Snapshot
    test: Holdout


@dataclass(frozen=True)
class Measured:
    """What a system did in its time: interactions learned from, and how well it then ranks."""

    name: str
    positions: float
    epochs: float
    seconds: float
    ndcg: float
    hit_rate: float

    @property
    def rate(self) -> float:
        """Interactions learned from in a second of training."""
        return self.positions / self.seconds


def main(words: list[str]) -> None:
    """Train one system after the other and print the table and the ratios."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.others")
    parser.add_argument("--data", type=Path, required=True, help="folder with ml-1m.zip")
    parser.add_argument("--rectools", type=Path, help="a Python with rectools[torch]")
    parser.add_argument("--recbole", type=Path, help="a Python with recbole")
    parser.add_argument("--minutes", type=float, default=3, help="of training, of each system")
    given = parser.parse_args(words)
    if given.rectools is None and given.recbole is None:
        parser.error("there is nothing to compare with: give --rectools or --recbole, or both")
    torch.set_num_threads(1)
    data, seconds = load(given.data / "ml-1m.zip"), 60 * given.minutes
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    if given.rectools:
        transformers(data, given.rectools, seconds)
    if given.recbole:
        factors(data, given.recbole, seconds)


def transformers(data: Data, python: Path, seconds: float, batch: int = 32) -> None:
    """Compare causal transformers over the history."""
    settings = {**SHAPE, "batch": batch, "rate": RATE, "loss": "softmax"}
    theirs = other(data, "RecTools SASRec, softmax", python, "rectools", settings, seconds)
    tower = HistoryTransformer(**SHAPE, item_attributes=False)
    training = Training(batch_size=batch, learning_rate=RATE, weight_decay=0.01)
    for name, loss in (("sampled", SampledSoftmax(count=512)), ("full", FullSoftmax())):
        own = ours(data, f"history_transformer, {name}_softmax", tower, loss, training, seconds)
        compare(own, theirs)


def factors(data: Data, python: Path, seconds: float, batch: int = 2048) -> None:
    """Compare embeddings of users and items under BPR."""
    settings = {"width": SHAPE["width"], "batch": batch, "rate": RATE}
    theirs = other(data, "RecBole BPR", python, "recbole", settings, seconds)
    blind: dict[str, Any] = {"item_attributes": False, "user_attributes": False, "history": 0}
    tower, loss = TwoTower(width=SHAPE["width"], **blind), BPR(count=1)
    # Theirs stays at its learning rate and ours falls to 0: from twice it, their mean is the same.
    for rate in (RATE, 2 * RATE):
        training = Training(batch_size=batch, learning_rate=rate)
        own = ours(data, f"two_tower, bpr, from {rate:g}", tower, loss, training, seconds)
        compare(own, theirs)


def load(path: Path) -> Data:
    """Return MovieLens-1M, the newest rating of each user held out."""
    data = encode(MovieLens1M(path=path, ties="rows").load())
    folds = LeaveLast(warm_items=False).folds(data.interactions, len(data.users), len(data.items))
    known = snapshot(data, folds.before_test, folds.t2, 7)
    return Data(known, held_out(data, folds, known))


def ours(
    data: Data, name: str, tower: Tower, loss: Loss, training: Training, seconds: float
) -> Measured:
    """Train a tower of ours for as many epochs as fit into the time."""
    known = data.known
    job = Job(tower, loss, training, 0, known.inputs, known.interactions, stop_after=2)
    epochs = max(1, round(seconds / epoch_seconds(job)))
    training = training.model_copy(update={"epochs": epochs})
    state, spent = timed(replace(job, training=training, stop_after=epochs))
    return measured(data, name, best(data, tower, state), epochs * positions(job), epochs, spent)


def epoch_seconds(job: Job) -> float:
    """Return the seconds of the second epoch of two: the first one warms up."""
    marks: list[float] = []
    train(job, Worker(report=lambda metrics, state: marks.append(time.process_time())))
    return marks[1] - marks[0]


def timed(job: Job) -> tuple[State, float]:
    """Return the last state of a job and the seconds that this process computed for it."""
    began = time.process_time()
    return train(job, Worker()), time.process_time() - began


def positions(job: Job) -> float:
    """Return how many interactions an epoch learns from: full batches of windows, or of them."""
    count = learned = len(job.interactions)
    if isinstance(job.tower, HistoryTransformer):
        users = len(job.inputs.warm_users)
        data = examples(job.interactions, users, torch.device("cpu"))
        count, learned = len(windows(data, job.tower.history)), count - users
    batch = job.schedule.batch_size
    return steps_per_epoch(count, batch, 1, None) * batch * learned / count


def best(data: Data, tower: Tower, state: State) -> Array:
    """Return the ten best items of each test user that the user did not have."""
    known, users = data.known, data.test.users
    model = tower.build(known.inputs)
    model.load_state_dict(state["model"])
    histories = known.histories.take(users)
    vectors = encode_users(model, users, histories), encode_catalogue(model)
    return rank_by_model(model, *vectors, known.catalogue, histories, K)


def other(
    data: Data, name: str, python: Path, library: str, settings: dict[str, Any], seconds: float
) -> Measured:
    """Train another library's model in a process of its Python.

    Raises:
        ValueError: that process failed.
    """
    script = Path(__file__).with_name(f"{library}_server.py")
    events, users = data.known.interactions, data.test.users
    with tempfile.TemporaryDirectory() as folder:
        known, result = Path(folder) / "known.npz", Path(folder) / "result.npz"
        np.savez(known, user=events.user, item=events.item)
        said = json.dumps({**settings, "seconds": seconds})
        # Not resolved: the python of an environment is a link to one without its libraries.
        words = [str(python.absolute()), str(script), str(known), str(result), said]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        if code := subprocess.run(words, env=alone, cwd=folder).returncode:
            raise ValueError(
                f"{python} should train {name}, and ended with code {code}; install {library} for "
                "it, or read above what it said"
            )
        found = dict(np.load(result))
    print(found["versions"], file=sys.stderr)
    figures = (float(found[key]) for key in ("positions", "epochs", "seconds"))
    return measured(data, name, found["ranked"][users], *figures)


def measured(
    data: Data, name: str, ranked: Array, positions: float, epochs: float, seconds: float
) -> Measured:
    """Measure a ranking of the test users, and print the row of the table."""
    scores = per_user(ranked, data.test.relevant, K)
    quality = float(scores["ndcg"].mean()), float(scores["hit_rate"].mean())
    row = Measured(name, positions, epochs, seconds, *quality)
    figures = (
        f"{row.rate:,.0f} | {epochs:.1f} | {seconds:.0f} | {row.ndcg:.4f} | {row.hit_rate:.4f}"
    )
    print(f"| {name} | {figures} |", flush=True)
    return row


def compare(own: Measured, theirs: Measured) -> None:
    """Print what we reach for each thing of theirs."""
    pair = f"{own.name} / {theirs.name}"
    print(f"ratio  {pair}, examples/s  {own.rate / theirs.rate:.2f}")
    print(f"ratio  {pair}, NDCG@10  {own.ndcg / theirs.ndcg:.2f}", flush=True)


if __name__ == "__main__":
    run(main)

"""Small generated data, and jobs over it, for the tests of training."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.encoded import Encoded, encode
from train.data.snapshot import Snapshot, TowerInputs, snapshot, validation_holdout
from train.data.splits.base import TRAIN, Folds
from train.data.splits.times import Time
from train.datasets.generated import Generated
from train.index.base import IndexSettings
from train.index.build import build_vector_index
from train.losses.base import Loss
from train.losses.pairwise import BPR
from train.losses.softmax import InBatchSoftmax
from train.recommender.recommender import Recommender
from train.towers import TOWERS
from train.towers.base import Tower
from train.towers.factorized import Factorized
from train.towers.pair_tower import PairTower
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Training, Validation, Worker
from train.trainer.loop import train

FACTORIZED = {name: entry for name, entry in TOWERS.items() if issubclass(entry, Factorized)}
GENERATED = Generated(users=150, items=80, interactions=3_000, tastes=6, seed=1)


@cache
def generated(dataset: Generated) -> tuple[Encoded, Folds]:
    """Return generated data, and its folds in time."""
    data = encode(dataset.load())
    return data, Time().folds(data.interactions, len(data.users), len(data.items))


def small() -> tuple[Encoded, Folds]:
    """Return a data set of 150 users and 80 items, and its folds in time."""
    return generated(GENERATED)


@cache
def before() -> Snapshot:
    """Return what was known of it before the validation window."""
    data, folds = small()
    return snapshot(data, folds.fold == TRAIN, folds.t1, 7)


def make_job(**changes: Any) -> Job:
    """Return a job on what `before` knows; `changes` are fields of the job or of `Training`."""
    fields = {name: changes.pop(name) for name in [*changes] if name in Job.__dataclass_fields__}
    known = before()
    values: dict[str, Any] = {
        "tower": TwoTower(width=8, history=5),
        "loss": InBatchSoftmax(),
        "training": Training(
            **{
                "batch_size": 64,
                "epochs": 3,
                "weight_decay": 0.1,
                "context_length": 5,
                "threads": 1,
                **changes,
            }
        ),
        "seed": 0,
        "inputs": known.inputs,
        "interactions": known.interactions,
    }
    return Job(**(values | fields))


def validation(
    data: Encoded | None = None, folds: Folds | None = None, known: Snapshot | None = None
) -> Validation:
    """Return the validation users for early stopping, those of `small` by default."""
    if data is None or folds is None or known is None:
        (data, folds), known = small(), before()
    holdout = validation_holdout(data, folds, known)
    histories = known.histories.take(holdout.users)
    return Validation(holdout.users, histories, holdout.relevant, known.catalogue)


def exact_recommender(
    data: Encoded, known: Snapshot, users: Array, items: Array, **rest: Any
) -> Recommender:
    """Return stage 1 over vectors of users `[U, d]` and items `[I, d]`, searched exactly."""
    index = build_vector_index(IndexSettings(kind="exact"), items, known.catalogue, seed=0)
    return Recommender.over(data, known, (users, items), index, **rest)


def suiting(tower: Tower) -> Loss:
    """Return a loss that can learn from the tower's scores."""
    return BPR() if isinstance(tower, PairTower) else InBatchSoftmax()


def plain_inputs(n_users: int, n_items: int) -> TowerInputs:
    """Return the inputs of users and items that are all warm and have no attributes."""
    return TowerInputs(
        Features.empty(n_users),
        Features.empty(n_items),
        np.ones(n_users, bool),
        np.ones(n_items, bool),
    )


def events(user: Array, item: Array) -> Interactions:
    """Return interactions in the order given, a second after one another."""
    return Interactions.ordered(user, item, np.arange(len(user)), np.ones(len(user)))


def histories(rows: list[list[int]]) -> Ragged:
    """Return histories from lists."""
    return Ragged.from_rows(rows)


def gloo_worker(rank: int, size: int, jobs: list[Job], folder: str, average: bool = True) -> None:
    """Train each job as worker `rank` of `size`, without Ray; rank 0 leaves the curves in files.

    Without `average` each worker takes its own steps, as if it were alone.
    """
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, broadcast_buffers=False) if average else model

    for number, job in enumerate(jobs):
        state = train(job, Worker(rank, size, wrap=wrap))
        if rank == 0:
            (Path(folder) / f"{number}.json").write_text(json.dumps(state["curve"]))
    # A worker that leaves first closes connections that the other may still wait on.
    dist.barrier()
    dist.destroy_process_group()


def read_curve(folder: Path, number: int) -> list[dict[str, Any]]:
    """Return the curve of a job that `gloo_worker` has trained."""
    curve: list[dict[str, Any]] = json.loads((folder / f"{number}.json").read_text())
    return curve


def features(dense: Array, rows: list[list[int]], vocabulary: list[str]) -> Features:
    """Return attributes of items: numbers `[I, A]`, and each item's codes of the vocabulary."""
    names = tuple(f"n{i}" for i in range(dense.shape[1]))
    return Features(dense.astype(np.float32), names, Ragged.from_rows(rows), tuple(vocabulary))

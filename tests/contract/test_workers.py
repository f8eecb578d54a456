"""What the gradients of several workers average to is that of one with all of the batch.

Over `LOSSES` and `TOWERS`, for the first step of each kind of example, without any process but this
one: a worker reads of the others only how many they are.
"""

from typing import Any

import numpy as np
import pytest
import torch

from tests.recording import record
from tests.training import make_job, suiting
from train.losses import LOSSES
from train.losses.base import Loss
from train.losses.pairwise import BPR
from train.towers import TOWERS
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Worker

SHARE = 24
# Sums of some 10,000 products, in three parts instead of one.
ROUNDING = 1e4 * float(np.finfo(np.float32).eps)


def only_step(job: Job, rank: int = 0, size: int = 1) -> torch.Tensor:
    [step] = record(job, Worker(rank, size)).steps
    return step.gradient.double()


def check(workers: int, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Compare workers with `SHARE` examples each with one that has all of them."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: None)
    once = {"epochs": 1, "epoch_examples": SHARE * workers, "half_life": 30}
    job = make_job(batch_size=SHARE, **once, **changes)
    whole = make_job(batch_size=SHARE * workers, **once, **changes)
    shares = torch.stack([only_step(job, rank, workers) for rank in range(workers)])
    expected = only_step(whole)
    near = ROUNDING * float(shares.abs().max())
    torch.testing.assert_close(shares.mean(0), expected, rtol=0, atol=near)
    assert float((shares[0] - expected).abs().max()) > 10 * near


@pytest.fixture(params=[2, 3])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("loss", [of() for of in LOSSES.values()], ids=lambda loss: loss.name)
def test_every_loss(loss: Loss, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    score = "dot" if loss.needs("dot") is None else "cosine"
    tower = TwoTower.model_validate({"width": 8, "history": 5, "score": score})
    check(workers, monkeypatch, loss=loss, tower=tower)


USERS = [of() for of in LOSSES.values() if not of().in_batch]


@pytest.mark.parametrize("loss", USERS, ids=lambda loss: loss.name)
def test_every_loss_of_users(loss: Loss, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    score = "dot" if loss.needs("dot") is None else "cosine"
    tower = TwoTower.model_validate({"width": 8, "history": 5, "score": score})
    check(workers, monkeypatch, loss=loss, tower=tower, examples="users")


STEPPING = [name for name, tower in TOWERS.items() if not tower.closed_form()]


@pytest.mark.parametrize("name", STEPPING)
def test_every_tower(name: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws anew on each worker, so there is none here."""
    tower = TOWERS[name].model_validate({"width": 8, "history": 5, "dropout": 0.0})
    check(workers, monkeypatch, loss=suiting(tower), tower=tower)
    check(workers, monkeypatch, loss=BPR(count=5), tower=tower)

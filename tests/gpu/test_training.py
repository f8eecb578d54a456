"""Training on GPUs: what is learned there is what is learned on a processor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import make_job, suiting, validation
from train.losses import LOSSES
from train.losses.pairwise import BPR
from train.ops.softmax import SampleInfo, softmax_loss
from train.towers import TOWERS
from train.towers.two_tower import TwoTower
from train.trainer.checkpoint import checkpoint_bytes, read_checkpoint
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.workers import train_here, train_on_ray

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")


def a_job(name: str) -> Job:
    """Return a job for a loss, for a tower, for an optimizer of rows, or for hard negatives."""
    if name.startswith("rowwise"):
        return make_job(optimizer=name)
    if name in LOSSES:
        cosines = name == "cosine_contrastive"
        tower = TwoTower(width=8, history=5, normalize=cosines)
        return make_job(tower=tower, loss=LOSSES[name]())
    if name in TOWERS:
        small = TOWERS[name].model_validate({"width": 8, "history": 5, "dropout": 0.0})
        return make_job(tower=small, loss=suiting(small))
    return make_job(loss=BPR(hard=4))


ROWWISE = ["rowwise_adam", "rowwise_adagrad"]
STEPPED = [name for name, tower in TOWERS.items() if not tower.closed_form()]


@pytest.mark.parametrize("name", [*LOSSES, *STEPPED, *ROWWISE, "hard negatives"])
def test_every_loss_and_tower_learns_what_it_learns_on_a_processor(name: str) -> None:
    job = replace(a_job(name), validation=validation())
    here, there = train(job, Worker()), train(job, Worker(device=GPU))
    for ours, theirs in zip(there["curve"], here["curve"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
        assert ours["ndcg"] == pytest.approx(theirs["ndcg"], abs=0.03)


@pytest.mark.parametrize("rows", [3, 1000])
def test_softmax_and_its_gradients_are_those_of_a_processor(rows: int) -> None:
    made = torch.Generator().manual_seed(0)
    vectors = [torch.randn(n, 16, generator=made) for n in (rows, rows, 700)]
    ids, negative_ids = (torch.randint(50, (n,), generator=made) for n in (rows, 700))

    def loss_and_gradients(device: torch.device) -> list[torch.Tensor]:
        users, positives, negatives = (
            part.detach().to(device).requires_grad_() for part in vectors
        )
        sample = SampleInfo(positive_ids=ids.to(device), negative_ids=negative_ids.to(device))
        loss = softmax_loss(users, positives, negatives, sample)
        gradients = torch.autograd.grad(loss, (users, positives, negatives))
        return [part.cpu() for part in (loss.detach(), *gradients)]

    there, here = loss_and_gradients(GPU), loss_and_gradients(torch.device("cpu"))
    for ours, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_checkpoint_of_a_gpu_goes_on_on_a_processor() -> None:
    job = make_job(epochs=4)
    begun = read_checkpoint(checkpoint_bytes(train(replace(job, stop_after=2), Worker(device=GPU))))
    both = train(job, Worker(), begun)
    alone = train(job, Worker())
    for ours, theirs in zip(both["curve"], alone["curve"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)


@pytest.mark.usefixtures("local_ray")
def test_each_ray_worker_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    workers = torch.cuda.device_count()
    values: dict[str, Any] = {"validation": validation(), "epochs": 2}
    shared = make_job(workers=workers, batch_size=64, **values)
    alone = make_job(batch_size=64 * workers, gpu=False, **values)
    ours = train_on_ray({"select": shared}, str(tmp_path / "ray"))["select"]
    theirs = train_here({"select": alone}, str(tmp_path / "here"))["select"]
    for row, exact in zip(ours["curve"], theirs["curve"], strict=True):
        assert row["loss"] == pytest.approx(exact["loss"], rel=1e-2)
    assert all(value.device.type == "cpu" for value in ours["best"]["weights"].values())

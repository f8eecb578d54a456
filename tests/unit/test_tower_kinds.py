"""A tower answers for itself: another kind of one is one class, and nothing else knows of it."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import before, make_job
from train.config import Run
from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.steps import on_ray
from train.towers.base import SuitsScores
from train.towers.batches import Batch, Examples, Sampling, Unit
from train.towers.model import TwoTowerModel
from train.towers.two_tower import TwoTower
from train.trainer.job import Worker
from train.trainer.loop import train


class Newest(TwoTower):
    """Learns from the newest interaction of each user alone, by the items before it."""

    seen: ClassVar[list[Batch]] = []

    def training_examples(self, data: Examples, unit: Unit) -> Tensor:
        """Return the last interaction of each user."""
        return data.starts[data.known_users() + 1] - 1

    def training_batch(self, data: Examples, step: Tensor, sampling: Sampling) -> Batch:
        """Return the batch of a tower, and keep it for the test."""
        self.seen.append(super().training_batch(data, step, sampling))
        return self.seen[-1]

    def check_training(self, unit: Unit, context: str) -> None:
        """Refuse histories with what came later."""
        if context != "before":
            raise ValueError("train.context: newest learns from what came before")


class Popular(TwoTower):
    """Sets items to their popularity and every user to 1."""

    @classmethod
    def closed_form(cls) -> bool:
        """It is."""
        return True

    @torch.no_grad()
    def fit(
        self, model: TwoTowerModel, inputs: TowerInputs, known: Interactions, seed: int
    ) -> None:
        """Count."""
        assert model.user_input.id is not None and model.item_input.id is not None
        counts = np.bincount(known.item, minlength=len(inputs.warm_items))
        model.user_input.id.weight[:] = 1
        model.item_input.id.weight[:-1, 0] = torch.tensor(counts).float()

    def unmet(self, loss: SuitsScores) -> str | None:
        """Any loss may stand beside it."""


def test_the_trainer_takes_examples_and_batches_of_the_tower() -> None:
    Newest.seen.clear()
    tower = Newest(width=8, history=5)
    job = make_job(tower=tower, batch_size=20, epochs=2, context="before", context_length=3)
    known = job.interactions
    state = train(job, Worker())
    assert [row["epoch"] for row in state["curve"]] == [1, 2]
    _, reversed_first = np.unique(known.user[::-1], return_index=True)
    last = len(known) - 1 - reversed_first
    newest = set(zip(known.user[last].tolist(), known.item[last].tolist(), strict=True))
    assert len(Newest.seen) == 2 * (len(newest) // 20)
    for batch in Newest.seen:
        pairs = list(zip(batch.users.tolist(), batch.items.tolist(), strict=True))
        assert len(set(pairs)) == 20
        assert set(pairs) <= newest
        assert batch.history.shape == (20, 3)


def test_the_trainer_fits_in_closed_form_what_says_so() -> None:
    tower = Popular(width=8, history=0, user_attributes=False, item_attributes=False)
    job = make_job(tower=tower, epochs=7)
    state = train(job, Worker())
    assert [row.keys() for row in state["curve"]] == [{"epoch", "seconds"}]
    counts = np.bincount(job.interactions.item, minlength=len(before().inputs.warm_items))
    np.testing.assert_array_equal(state["model"]["item_input.id.weight"][:-1, 0], counts)


def run(**changes: Any) -> Run:
    return Run.model_validate({"data": {"name": "generated"}} | changes)


def test_a_run_asks_the_tower_what_suits_it() -> None:
    assert run(tower=Newest(), train={"context": "before"}).tower == Newest()
    with pytest.raises(ValueError, match=r"train\.context: newest learns from what came before"):
        run(tower=Newest())
    with pytest.raises(ValueError, match="loss 'cosine_contrastive' needs scores of cosine"):
        run(tower=TwoTower(), loss="cosine_contrastive")
    assert run(tower=Popular(), loss="cosine_contrastive").tower == Popular()


def test_workers_train_only_what_takes_steps() -> None:
    assert on_ray(run(tower=TwoTower(), train={"workers": 1}))
    assert not on_ray(run(tower=TwoTower(), train={"workers": 0}))
    assert not on_ray(run(tower=Popular(), train={"workers": 1}))

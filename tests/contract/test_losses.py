"""What every loss keeps; a new entry of `LOSSES` is tested by being there."""

from functools import cache
from typing import Any

import pytest
import torch

from tests.training import generated, make_job, validation
from train.batches import Batch, examples, history_sample, item_frequency
from train.datasets import Generated
from train.loop import Job, World, batch_loss, train
from train.losses import LOSSES, FullSoftmax, Loss
from train.snapshot import snapshot
from train.splits import TRAIN
from train.towers import TwoTower


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> Loss:
    return LOSSES[request.param]()


def test_it_is_called_as_its_key(loss: Loss) -> None:
    assert LOSSES[loss.name] is type(loss)  # type: ignore[attr-defined]


def test_a_batch_has_a_finite_loss_and_every_parameter_a_gradient(loss: Loss) -> None:
    job = job_for(loss)
    torch.manual_seed(0)
    model = job.tower.build(job.inputs)
    data = examples(job.interactions, len(job.inputs.warm_users), torch.device("cpu"))
    index = torch.arange(0, len(data), 7)
    history = history_sample(data, index, 5, seed=0)
    items = data.items[index].long()
    batch = Batch(data.users[index].long(), items, items, 0, history)
    frequency = item_frequency(job.interactions.item, len(job.inputs.warm_items))
    catalogue = frequency.nonzero().flatten()
    drawn = loss.negatives(catalogue, frequency[catalogue], len(index), 0)
    value = batch_loss(model, loss, batch, drawn, loss.log_q(frequency))
    assert value.shape == ()
    assert torch.isfinite(value)
    assert value > 0
    value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


TASTES = Generated(users=400, items=200, interactions=16_000, tastes=6, seed=1)


def job_for(loss: Loss, width: int = 8, **changes: Any) -> Job:
    """A job whose tower suits the loss."""
    normalize = loss.needs(normalize=False) is not None
    tower = TwoTower(width=width, history=5, normalize=normalize)
    return make_job(loss=loss, tower=tower, **changes)


def test_negatives_are_of_the_catalogue_and_the_same_on_every_worker(loss: Loss) -> None:
    catalogue, frequency = torch.tensor([3, 5, 8]), torch.tensor([1.0, 2.0, 3.0])
    drawn, again, other = (loss.negatives(catalogue, frequency, 6, seed) for seed in (7, 7, 8))
    if drawn is None or again is None or other is None:
        assert drawn is again is other
        return
    assert torch.isin(drawn, catalogue).all()
    assert torch.equal(drawn, again)
    if len(drawn) != len(catalogue):
        assert not torch.equal(drawn, other)
    if drawn.dim() == 2:
        assert len(drawn) == 6


def test_it_suits_some_tower(loss: Loss) -> None:
    assert None in {loss.needs(normalize=normalize) for normalize in (False, True)}


def test_it_falls_over_a_few_epochs(loss: Loss) -> None:
    curve = train(job_for(loss, epochs=4, learning_rate=0.01), World())["curve"]
    losses = [row["loss"] for row in curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0]


@cache
def best_ndcg(loss: Loss) -> float:
    """Return the best validation NDCG@10 of a short training on generated tastes."""
    data, folds = generated(TASTES)
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    job = job_for(
        loss,
        width=16,
        batch_size=256,
        epochs=8,
        patience=8,
        learning_rate=0.01,
        inputs=known.inputs,
        interactions=known.interactions,
        validation=validation(data, folds, known),
    )
    return float(max(row["ndcg"] for row in train(job, World())["curve"]))


def test_it_learns_the_tastes(loss: Loss) -> None:
    """At least 80 % of what the full softmax reaches: no loss falls to chance or to popularity."""
    assert best_ndcg(loss) > 0.8 * best_ndcg(FullSoftmax())

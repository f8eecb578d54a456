"""What every loss keeps; a new entry of `LOSSES` is tested by being there."""

import pytest
import torch

from tests.training import make_job
from train.batches import Batch, examples, history_sample, item_frequency
from train.loop import World, batch_loss, train
from train.losses import LOSSES, Loss


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> Loss:
    return LOSSES[request.param]()


def test_it_is_called_as_its_key(loss: Loss) -> None:
    assert LOSSES[loss.name] is type(loss)  # type: ignore[attr-defined]


def test_a_batch_has_a_finite_loss_and_every_parameter_a_gradient(loss: Loss) -> None:
    job = make_job()
    torch.manual_seed(0)
    model = job.tower.build(job.inputs)
    data = examples(job.interactions, len(job.inputs.warm_users), torch.device("cpu"))
    index = torch.arange(0, len(data), 7)
    history = history_sample(data, index, 5, seed=0)
    items = data.items[index].long()
    batch = Batch(data.users[index].long(), items, items, 0, history)
    frequency = item_frequency(job.interactions.item, len(job.inputs.warm_items))
    catalogue = frequency.nonzero().flatten()
    value = batch_loss(model, loss, batch, loss.negatives(catalogue, 0), loss.log_q(frequency))
    assert value.shape == ()
    assert torch.isfinite(value)
    assert value > 0
    value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_negatives_are_of_the_catalogue_and_the_same_on_every_worker(loss: Loss) -> None:
    catalogue = torch.tensor([3, 5, 8])
    drawn, again = loss.negatives(catalogue, 7), loss.negatives(catalogue, 7)
    if drawn is None or again is None:
        assert drawn is again
        return
    assert torch.isin(drawn, catalogue).all()
    assert torch.equal(drawn, again)


def test_it_falls_over_a_few_epochs(loss: Loss) -> None:
    curve = train(make_job(loss=loss, epochs=4, learning_rate=0.01), World())["curve"]
    losses = [row["loss"] for row in curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0]

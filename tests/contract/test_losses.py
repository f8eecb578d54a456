"""What every loss keeps; a new entry of `LOSSES` is tested by being there."""

from dataclasses import replace
from functools import cache
from typing import Any, get_args

import pytest
import torch

from tests.training import generated, make_job, validation
from train.data.snapshot import snapshot
from train.data.splits.base import TRAIN
from train.datasets.generated import Generated
from train.losses import LOSSES
from train.losses.base import Head, Loss, LossInputs
from train.losses.pairwise import BPR, Triplet
from train.losses.softmax import FullSoftmax, InBatchSoftmax, SampledSoftmax
from train.ops.tensors import products
from train.towers import TOWERS
from train.towers.base import Scores, Tower
from train.towers.batches import Batch, history_sample
from train.towers.dssm import DSSM
from train.towers.history_transformer import HistoryTransformer
from train.towers.matching_mlp import MatchingMLP
from train.towers.ncf import NCF
from train.towers.pair_tower import PairTower
from train.towers.two_tower import TwoTower
from train.trainer.epoch import batch_loss
from train.trainer.examples import examples
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.negatives import Negatives


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
    batch = Batch(data.users[index].long(), history, items, slice(None))
    of = job.interactions.item, len(job.inputs.warm_items), len(index), torch.device("cpu")
    negatives = Negatives.of(loss, *of)
    value = batch_loss(model, loss, batch, negatives.draw(batch, 0), negatives)
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
    score: Scores = "dot" if loss.needs("dot") is None else "cosine"
    tower = TwoTower(width=width, history=5, score=score)
    return make_job(**{"loss": loss, "tower": tower, **changes})


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
    assert None in {loss.needs(scores) for scores in loss.suits}
    assert set(loss.suits) <= set(get_args(Scores))


def test_it_falls_over_a_few_epochs(loss: Loss) -> None:
    curve = train(job_for(loss, epochs=4, learning_rate=0.01), Worker())["curve"]
    losses = [row["loss"] for row in curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.97 * losses[0]


VARIANTS: list[tuple[Loss, Tower]] = [
    (InBatchSoftmax(uniform=64), TwoTower()),
    (InBatchSoftmax(temperature=0.1), TwoTower(score="cosine")),
    (InBatchSoftmax(), TwoTower(score="euclidean")),
    (BPR(count=10, form="sigmoid", temperature=0.2), TwoTower(score="cosine")),
    (BPR(count=32, shared=True), TwoTower()),
    (BPR(hard=4), TwoTower()),
    (Triplet(), TwoTower(score="euclidean")),
    (FullSoftmax(), TwoTower(pooling="attention")),
    (SampledSoftmax(), MatchingMLP(item_id=True)),
    (InBatchSoftmax(), NCF()),
]


@cache
def best_ndcg(loss: Loss, tower: Tower | None = None, unit: str = "interactions") -> float:
    """Return the best validation NDCG@10 of a short training on generated tastes."""
    data, folds = generated(TASTES)
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    changes: dict[str, Any] = {"examples": unit} if tower is None else {"tower": tower}
    if unit == "users" or isinstance(tower, HistoryTransformer):
        changes["batch_size"] = 16
    job = job_for(
        loss,
        width=16,
        **{"batch_size": 256, **changes},
        # Half of the interactions of a user describe the user.
        epochs=16 if unit == "users" else 8,
        patience=16,
        learning_rate=0.01,
        inputs=known.inputs,
        interactions=known.interactions,
        validation=validation(data, folds, known),
    )
    return float(max(row["ndcg"] for row in train(job, Worker())["curve"]))


def test_it_learns_the_tastes(loss: Loss) -> None:
    """At least 80 % of what the full softmax reaches: no loss falls to chance or to popularity."""
    assert best_ndcg(loss) > 0.8 * best_ndcg(FullSoftmax())


@pytest.mark.parametrize(("loss", "tower"), VARIANTS, ids=lambda value: value.name)
def test_its_variants_learn_them_too(loss: Loss, tower: Tower) -> None:
    small = tower.model_copy(update={"width": 16, "history": 20})
    assert best_ndcg(loss, small) > 0.8 * best_ndcg(FullSoftmax())


DRAWN = [of() for of in LOSSES.values() if not of().in_batch]


@pytest.mark.parametrize("loss", DRAWN, ids=lambda loss: loss.name)
def test_it_learns_them_from_users_with_all_their_interactions(loss: Loss) -> None:
    assert best_ndcg(loss, unit="users") > 0.8 * best_ndcg(FullSoftmax())


IDS: dict[str, Any] = {"width": 16, "history": 20, "user_id": True, "item_id": True}


@pytest.mark.parametrize("tower", [tower() for tower in TOWERS.values()], ids=lambda t: t.name)
def test_every_tower_learns_them(tower: Tower) -> None:
    """With ids: what attributes tell alone is less."""
    loss = BPR() if isinstance(tower, PairTower) else FullSoftmax()
    assert best_ndcg(loss, tower.model_copy(update=IDS)) > 0.7 * best_ndcg(FullSoftmax())


def test_a_share_of_wrong_pairs_over_cosines_does_not_collapse() -> None:
    """Training a DSSM by it went to an NDCG of 0.0002 elsewhere, a hundredth of the triplet's."""
    tower = DSSM(**IDS, score="cosine")
    loss = BPR(count=10, form="sigmoid", temperature=0.2)
    assert best_ndcg(loss, tower) > 0.8 * best_ndcg(FullSoftmax(temperature=0.2), tower)


@pytest.mark.parametrize("head", [None, products], ids=["vectors", "head"])
def test_all_scores_are_divided_by_the_temperature(loss: Loss, head: Head | None) -> None:
    """Those of positives and of negatives: half of it is as users of twice the length."""
    torch.manual_seed(0)
    users, positives, negatives = torch.randn(3, 6, 4, dtype=torch.float64)
    items = torch.arange(6)
    inputs = LossInputs(
        users, positives, negatives, positive_ids=items, negative_ids=items + 1, head=head
    )
    if loss.in_batch:
        log_q = -torch.ones(6)
        inputs = replace(inputs, positive_log_q=log_q, negative_log_q=2 * log_q)
    sharp = type(loss).model_validate({"temperature": 0.5})
    longer = replace(inputs, users=2 * users)
    # Pairs are scored in float32.
    assert float(sharp(inputs)) == pytest.approx(float(loss(longer)), rel=1e-5)
    assert float(sharp(inputs)) != pytest.approx(float(loss(inputs)), rel=1e-3)


def test_a_negative_that_is_the_positive_counts_nothing(loss: Loss) -> None:
    """Whatever its vector is, the loss is the same; that of another item's changes it."""
    torch.manual_seed(0)
    users, positives = torch.randn(2, 3, 4, dtype=torch.float64)
    negatives = torch.randn(5, 4, dtype=torch.float64)
    inputs = LossInputs(
        users,
        positives,
        negatives,
        positive_ids=torch.tensor([7, 7, 7]),
        negative_ids=torch.tensor([1, 7, 2, 3, 4]),
    )
    plain = float(loss(inputs))
    for place, matters in ((1, False), (2, True)):
        moved = negatives.clone()
        moved[place] = 5 * users.sum(0)
        found = float(loss(replace(inputs, negatives=moved)))
        assert (found != pytest.approx(plain, rel=1e-4)) == matters

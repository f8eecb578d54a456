"""The softmax loss by hand, its gradient, and what its correction for popularity converges to."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import events, make_job, plain_inputs
from tests.unit.test_softmax import random_vectors
from train.core.ragged import Array
from train.losses import LOSSES
from train.losses.base import Loss, LossInputs
from train.losses.pairwise import BCE, BPR, GBCE, CosineContrastive, PairLoss, Triplet
from train.losses.softmax import FullSoftmax, InBatchSoftmax, SampledSoftmax
from train.towers.batches import Batch
from train.towers.two_tower import TwoTower
from train.trainer.epoch import batch_loss
from train.trainer.job import Training, Worker
from train.trainer.loop import train
from train.trainer.negatives import Negatives, hard_pool


def test_log_q_is_the_share_in_training() -> None:
    log_q = InBatchSoftmax().log_q(torch.tensor([3.0, 1.0, 0.0]), rows=8)
    assert log_q is not None
    assert log_q.exp()[:2].tolist() == pytest.approx([0.75, 0.25])
    assert torch.isfinite(log_q).all()
    assert InBatchSoftmax(correct_log_q=False).log_q(torch.ones(3), rows=8) is None


def test_mixed_negatives_are_corrected_for_how_often_each_is_expected() -> None:
    """8 positives a step and 4 uniform items: of an item 3 of 4 positives are, 6 + 2 come."""
    frequency = torch.tensor([3.0, 1.0, 0.0])
    log_q = InBatchSoftmax(uniform=4).log_q(frequency, rows=8)
    assert log_q is not None
    assert (8 * log_q.exp())[:2].tolist() == pytest.approx([6 + 2, 2 + 2])


def test_scores_are_divided_by_the_temperature() -> None:
    torch.manual_seed(0)
    ids, negative_ids = torch.tensor([0, 1]), torch.tensor([2, 3, 4])
    vectors = torch.randn(2, 4), torch.randn(2, 4), torch.randn(3, 4)
    inputs = LossInputs(*vectors, positive_ids=ids, negative_ids=negative_ids)
    hot = FullSoftmax(temperature=0.5)(inputs)
    doubled = FullSoftmax()(replace(inputs, users=2 * inputs.users))
    assert hot.item() == pytest.approx(doubled.item())


def test_uniform_negatives_are_uniform_and_the_same_for_a_seed() -> None:
    catalogue, loss = torch.tensor([2, 5, 7]), SampledSoftmax(count=3000)
    frequency = torch.tensor([1.0, 1.0, 8.0])
    drawn = loss.negatives(catalogue, frequency, 9, 1)
    assert drawn is not None
    counts = drawn.bincount(minlength=8)
    assert counts[[2, 5, 7]].sum() == 3000
    assert (abs(counts[[2, 5, 7]] - 1000) < 150).all()
    again, other = (loss.negatives(catalogue, frequency, 9, seed) for seed in (1, 2))
    assert again is not None and other is not None
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)


def of_scores(loss: PairLoss, positive: float, negative: list[float], mask: list[bool]) -> float:
    found = loss.of_scores(
        positive=torch.tensor([positive]),
        negative=torch.tensor([negative]),
        mask=torch.tensor([mask]),
        catalogue=10,
    )
    assert found.shape == (1,)
    return found.item()


L3 = math.log(3)  # the log-odds of one among three negatives


def log_sigmoid(score: float) -> float:
    return -math.log(1 + math.exp(-score))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (BCE(from_chance=False), -log_sigmoid(0.5) - log_sigmoid(-0.7) - log_sigmoid(0.2)),
        (BCE(), -log_sigmoid(0.5 - L3) - log_sigmoid(-0.7 + L3) - log_sigmoid(0.2 + L3)),
        (BPR(), -(log_sigmoid(0.5 - 0.7) + log_sigmoid(0.5 + 0.2)) / 2),
        (BPR(form="sigmoid"), (1 / (1 + math.exp(-0.2)) + 1 / (1 + math.exp(0.7))) / 2),
        # 3 of 9 negatives are drawn: a = 1/3, beta = (0.5 (1 - 3) + 3) / 3 = 2/3.
        (
            GBCE(calibration=0.5, from_chance=False),
            -2 / 3 * log_sigmoid(0.5) - log_sigmoid(-0.7) - log_sigmoid(0.2),
        ),
        (Triplet(margin=0.3), (0.3 + 0.7 - 0.5) / 2),
        (Triplet(margin=0.3, hardest=True), 0.3 + 0.7 - 0.5),
        (CosineContrastive(margin=0.4, negative_weight=3), 1 - 0.5 + 3 * (0.7 - 0.4) / 2),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_pairs_by_hand(loss: PairLoss, expected: float) -> None:
    """A positive at 0.5, negatives at 0.7 and -0.2, and one at 9 that is the positive itself."""
    found = of_scores(loss, 0.5, [0.7, 9, -0.2], [True, False, True])
    assert found == pytest.approx(expected)


def test_a_triplet_over_euclidean_scores_is_of_squared_distances() -> None:
    job = make_job(tower=TwoTower(width=5, history=0, score="euclidean"))
    torch.manual_seed(0)
    model = job.tower.build(plain_inputs(1, 2))
    user, items = model(torch.tensor([0]), torch.full((1, 1), -1), torch.tensor([0, 1]))
    inputs = LossInputs(
        users=user,
        positives=items[:1],
        negatives=items[None, 1:],
        positive_ids=torch.tensor([0]),
        negative_ids=torch.tensor([[1]]),
    )
    found = Triplet(margin=9)(inputs)
    table = model.item_input.id
    assert table is not None and model.user_input.id is not None
    far = (model.user_input.id.weight[0] - table.weight[:2]).square().sum(1)
    assert found.item() == pytest.approx((9 + far[0] - far[1]).item(), abs=1e-5)


def test_scores_that_a_loss_cannot_read_are_named() -> None:
    assert BCE().needs("dot") is None
    assert BCE().needs("euclidean") == ("scores of dot or cosine or pair, not euclidean: set tower")


def test_hard_negatives_are_what_ranks_high_for_their_user() -> None:
    """Half of each one's negatives, from the pool; the rest as without."""
    loss = BPR(count=4, hard=2, hard_pool=3)
    plain = Negatives.of(loss, np.arange(20), 20, 6, torch.device("cpu"))
    pool = torch.tensor([[1, 2, 3], [11, 12, -1]])
    hard = replace(plain, pool=pool)
    users = torch.tensor([0, 1, 1])
    batch = Batch(users, torch.full((3, 1), -1), torch.arange(6), slice(3, 6))
    before, after = plain.draw(batch, 5), hard.draw(batch, 5)
    assert before is not None and after is not None
    assert torch.equal(before[:, 2:], after[:, 2:])
    for user, own, was in zip(users, after[:, :2], before[:, :2], strict=True):
        for item, plain_item in zip(own, was, strict=True):
            assert item in pool[user] or item == plain_item
    assert (after >= 0).all()
    assert not torch.equal(before, after)


def test_the_pool_of_hard_negatives_is_the_ranking_without_what_was_taken() -> None:
    job = make_job()
    model = job.tower.build(job.inputs)
    pool = hard_pool(model, job.inputs, job.interactions, 10)
    assert pool.shape == (len(job.inputs.warm_users), 10)
    taken = {*zip(job.interactions.user.tolist(), job.interactions.item.tolist(), strict=True)}
    pairs = {(user, item) for user, row in enumerate(pool.tolist()) for item in row}
    assert not pairs & taken


@pytest.mark.parametrize("changes", [{"hard": 5}, {"hard": 1, "shared": True}])
def test_hard_negatives_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="hard"):
        BPR(count=4, **changes)


PAIR_LOSSES = [loss() for loss in LOSSES.values() if issubclass(loss, PairLoss)]


@pytest.mark.parametrize("loss", PAIR_LOSSES, ids=lambda loss: loss.name)
def test_own_and_shared_negatives_are_scored_alike(loss: PairLoss) -> None:
    users, positives, negatives = random_vectors(rows=5, columns=7)
    ids, negative_ids = torch.randint(4, (5,)), torch.randint(4, (7,))
    shared = LossInputs(users, positives, negatives, positive_ids=ids, negative_ids=negative_ids)
    own = replace(
        shared, negatives=negatives.expand(5, 7, 3), negative_ids=negative_ids.expand(5, 7)
    )
    assert loss(own).item() == pytest.approx(loss(shared).item())


@pytest.mark.parametrize("loss", PAIR_LOSSES, ids=lambda loss: loss.name)
def test_the_gradient_of_pairs_is_that_of_the_loss(loss: PairLoss) -> None:
    mask = torch.rand(4, 6) < 0.7
    scores = torch.randn(4).double().requires_grad_(), torch.randn(4, 6).double().requires_grad_()

    def value(positive: Tensor, negative: Tensor) -> Tensor:
        return loss.of_scores(positive, negative, mask, 50)

    assert torch.autograd.gradcheck(value, scores)


def test_popular_negatives_follow_the_power_of_their_frequency() -> None:
    catalogue, frequency = torch.tensor([2, 5, 7]), torch.tensor([1.0, 16.0, 81.0])
    drawn = BPR(sampling="popularity", count=10).negatives(catalogue, frequency, 3600, 0)
    assert drawn is not None
    assert drawn.shape == (3600, 10)
    shares = drawn.flatten().bincount(minlength=8)[catalogue] / 36_000
    assert shares.tolist() == pytest.approx([1 / 36, 8 / 36, 27 / 36], abs=0.01)
    assert BPR(sampling="in_batch").negatives(catalogue, frequency, 3600, 0) is None


USERS, ITEMS, EACH = 4, 12, 1200


def planted() -> Array:
    """Return what share of a user's interactions each item has, `[U, I]`.

    All users rank the items as 0, 1, 2, ... but each likes one of the rare ones, its own, third.
    """
    order = np.array([[0, 1, 8 + u, *(i for i in range(2, 12) if i != 8 + u)] for u in range(4)])
    share = np.exp(-0.3 * np.argsort(order, axis=1))
    return np.asarray(share / share.sum(axis=1, keepdims=True))


@cache
def learned(loss: Loss) -> Array:
    """Return the scores `[U, I]` after the real loop has trained on the planted interactions."""
    counts = np.rint(planted() * EACH).astype(int)
    user, item = np.divmod(np.repeat(np.arange(USERS * ITEMS), counts.ravel()), ITEMS)
    training = Training(
        batch_size=240, epochs=20, learning_rate=0.05, weight_decay=0, context_length=1
    )
    job = make_job(
        tower=TwoTower(width=ITEMS, history=0),
        loss=loss,
        training=training,
        inputs=plain_inputs(USERS, ITEMS),
        interactions=events(user, item),
        stop_after=training.epochs,
    )
    weights = train(job, Worker())["model"]
    users, items = (weights[f"{side}_input.id.weight"][:-1] for side in ("user", "item"))
    return np.asarray(users @ items.T)


def ranking(scores: Array) -> list[list[int]]:
    order: list[list[int]] = np.argsort(-scores, axis=1).tolist()
    return order


@pytest.mark.parametrize(
    "loss", [FullSoftmax(), InBatchSoftmax(), SampledSoftmax(count=32)], ids=lambda loss: loss.name
)
def test_every_softmax_converges_to_the_planted_ranking(loss: Loss) -> None:
    assert ranking(learned(loss)) == ranking(planted())


def test_the_full_softmax_converges_to_the_planted_shares() -> None:
    scores = torch.tensor(learned(FullSoftmax())).softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, planted(), atol=0.02)


def test_uncorrected_in_batch_negatives_punish_what_is_popular() -> None:
    """They converge to `p(i | u) / p(i)`: everyone's rare favourite comes first, wrongly."""
    scores = learned(InBatchSoftmax(correct_log_q=False))
    assert scores.argmax(axis=1).tolist() == [8, 9, 10, 11]
    assert ranking(scores) != ranking(planted())
    lift = np.log(planted() / planted().mean(axis=0))
    assert np.corrcoef(scores.ravel(), lift.ravel())[0, 1] > 0.9


def test_the_batch_is_its_own_negatives() -> None:
    """By hand, from the vectors: other positives of the batch, without the same item."""
    torch.manual_seed(0)
    vectors, items = torch.randn(2, 4, 8), torch.tensor([5, 6, 5, 7])

    class Fixed(torch.nn.Module):
        def forward(self, users: Tensor, history: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
            return vectors[0], vectors[1]

    batch = Batch(torch.arange(4), torch.full((4, 1), -1), items, slice(None))
    frequency = torch.tensor([1.0] * 5 + [4.0, 2.0, 1.0])
    loss = InBatchSoftmax()
    interactions = np.repeat(np.arange(8), frequency.int().numpy())
    negatives = Negatives.of(loss, interactions, 8, 4, torch.device("cpu"))
    found = batch_loss(Fixed(), loss, batch, negatives.draw(batch, 0), negatives)
    scores = vectors[0] @ vectors[1].T - (frequency / frequency.sum()).log()[items]
    terms = []
    for row in range(4):
        others = [j for j in range(4) if items[j] != items[row]]
        terms.append(scores[row, [row, *others]].logsumexp(0) - scores[row, row])
    assert found.item() == pytest.approx(torch.stack(terms).mean().item())

"""The softmax loss by hand, its gradient, and its blocks against the whole matrix of scores."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from train.ops.softmax import SampleInfo, softmax_loss, softmax_of_scores

# A width of 1 and users of 1 make the vectors of the items their scores.
ONE, TWO = torch.ones(1, 1), torch.ones(2, 1)


def column(*scores: float) -> Tensor:
    return torch.tensor(scores, dtype=torch.float32)[:, None]


def test_by_hand() -> None:
    users, positives = torch.tensor([[1.0], [0.0]]), column(2, 5)
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + 1 + math.exp(-1)))
    loss = softmax_loss(users, positives, column(1, 0, -1))
    assert loss.item() == pytest.approx((first + math.log(4)) / 2)


def test_hits_are_left_out() -> None:
    ids = SampleInfo(positive_ids=torch.tensor([7]), negative_ids=torch.tensor([7, 8]))
    expected = softmax_loss(ONE, column(2), column(1))
    found = softmax_loss(ONE, column(2), column(9, 1), ids)
    assert found.item() == pytest.approx(expected.item())


def test_nothing_but_hits_is_a_loss_of_0() -> None:
    positive = column(2).requires_grad_()
    ids = SampleInfo(positive_ids=torch.tensor([3]), negative_ids=torch.tensor([3]))
    loss = softmax_loss(ONE, positive, column(2), ids)
    loss.backward()
    assert loss.item() == 0
    assert positive.grad is not None
    assert positive.grad.tolist() == [[0]]


def test_a_popular_negative_counts_less() -> None:
    """A negative drawn twice as often as another one weighs half of it: `exp(s) / q`."""
    sample = SampleInfo(
        positive_log_q=torch.tensor([0.1]).log(), negative_log_q=torch.tensor([0.5, 0.25]).log()
    )
    loss = softmax_loss(ONE, column(1), column(0.3, 0.3), sample)
    own, others = math.exp(1) / 0.1, math.exp(0.3) / 0.5 + math.exp(0.3) / 0.25
    assert loss.item() == pytest.approx(-math.log(own / (own + others)))


def test_weights_multiply_the_loss_of_each_positive() -> None:
    positives, negatives = column(2, 0.5), column(1)
    each = [softmax_loss(ONE, positives[i : i + 1], negatives).item() for i in (0, 1)]
    loss = softmax_loss(TWO, positives, negatives, SampleInfo(weight=torch.tensor([1.5, 0.5])))
    assert loss.item() == pytest.approx((1.5 * each[0] + 0.5 * each[1]) / 2)


@pytest.mark.parametrize("corrected", [True, False])
def test_the_gradient_is_that_of_the_loss(corrected: bool) -> None:
    vectors = random_vectors(rows=20, columns=6)
    log_q = torch.rand(26, dtype=torch.float64).log()
    sample = SampleInfo(
        positive_ids=torch.randint(4, (20,)),
        negative_ids=torch.randint(4, (6,)),
        positive_log_q=log_q[:20] if corrected else None,
        negative_log_q=log_q[20:] if corrected else None,
        weight=torch.rand(20, dtype=torch.float64),
    )

    def loss(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        return softmax_loss(users, positives, negatives, sample)

    assert torch.autograd.gradcheck(loss, vectors)


def random_vectors(rows: int, columns: int) -> list[Tensor]:
    """Users, positives and negatives that want a gradient."""
    torch.manual_seed(0)
    sizes = rows, rows, columns
    return [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in sizes]


def random_sample(rows: int, columns: int) -> tuple[SampleInfo, Tensor, tuple[Tensor, Tensor]]:
    """Ids, log q and weights; and, for the formulas, which pairs are hits, and both log q."""
    ids, negative_ids = torch.randint(9, (rows,)), torch.randint(9, (columns,))
    log_q, negative_log_q = (torch.randn(n, dtype=torch.float64) for n in (rows, columns))
    sample = SampleInfo(
        positive_ids=ids,
        negative_ids=negative_ids,
        positive_log_q=log_q,
        negative_log_q=negative_log_q,
        weight=torch.rand(rows, dtype=torch.float64),
    )
    return sample, ids[:, None] == negative_ids, (log_q, negative_log_q)


@pytest.mark.parametrize("rows", [1, 16, 17, 50])
def test_blocks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients are those of the formula over the whole matrix of scores."""
    monkeypatch.setattr("train.ops.softmax.CPU_BLOCK", 1)
    users, positives, negatives = random_vectors(rows, columns=30)
    sample, hits, log_q = random_sample(rows, columns=30)
    found = softmax_loss(users, positives, negatives, sample)
    found.backward()
    gradients = [vectors.grad for vectors in (users, positives, negatives)]
    positive = (users * positives).sum(1) - log_q[0]
    negative = (users @ negatives.T - log_q[1]).masked_fill(hits, -torch.inf)
    scores = torch.cat([positive[:, None], negative], dim=1)
    assert sample.weight is not None
    expected = ((scores.logsumexp(1) - positive) * sample.weight).mean()
    assert found.item() == pytest.approx(expected.item())
    plain = torch.autograd.grad(expected, (users, positives, negatives))
    for ours, formula in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, formula)


def test_positives_of_one_user_share_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stands against the negatives that none of the user's positives is."""
    monkeypatch.setattr("train.ops.softmax.CPU_BLOCK", 1)
    users, _, negatives = random_vectors(rows=20, columns=30)
    rows = torch.tensor([0, 0, 0, 2, 3, 3, *range(4, 15), 17, 17, 18])
    positives = torch.randn(len(rows), 3, dtype=torch.float64, requires_grad=True)
    sample, hits, log_q = random_sample(len(rows), columns=30)
    sample = replace(sample, rows=rows)

    def ours(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        return softmax_loss(users, positives, negatives, sample)

    taken = (rows[:, None] == rows).double() @ hits.double() > 0
    positive = (users[rows] * positives).sum(1) - log_q[0]
    negative = (users[rows] @ negatives.T - log_q[1]).masked_fill(taken, -torch.inf)
    scores = torch.cat([positive[:, None], negative], dim=1)
    assert sample.weight is not None
    expected = ((scores.logsumexp(1) - positive) * sample.weight).mean()
    assert ours(users, positives, negatives).item() == pytest.approx(expected.item())
    assert torch.autograd.gradcheck(ours, (users, positives, negatives))


def test_the_softmax_of_scores_that_are_there_is_that_of_vectors() -> None:
    """Also for users with several positives, of which none is a negative to another."""
    users, _, negatives = random_vectors(rows=20, columns=30)
    rows = torch.randint(20, (40,)).sort().values
    positives = torch.randn(40, 3, dtype=torch.float64)
    sample = replace(random_sample(rows=40, columns=30)[0], rows=rows)
    positive = (users[rows] * positives).sum(1)
    found = softmax_of_scores(positive, users @ negatives.T, sample)
    assert found.item() == pytest.approx(softmax_loss(users, positives, negatives, sample).item())
    assert sample.positive_ids is not None
    ids = SampleInfo(positive_ids=sample.positive_ids[:20], negative_ids=sample.negative_ids)
    plain = (users * positives[:20]).sum(1)
    found = softmax_of_scores(plain, users @ negatives.T, ids)
    exact = softmax_loss(users, positives[:20], negatives, ids)
    assert found.item() == pytest.approx(exact.item())

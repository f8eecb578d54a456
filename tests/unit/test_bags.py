"""Means of looked-up rows, and their gradient, beside the definition."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from train.ops.embedding_bag import means

SIZE, WIDTH = 6, 3
BAGS = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=5), min_size=1, max_size=8)


def flat(bags: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return the rows of all bags, and where each begins."""
    lengths = torch.tensor([len(bag) for bag in bags])
    rows = torch.tensor([row for bag in bags for row in bag], dtype=torch.int64)
    return rows, lengths.cumsum(0) - lengths


def by_hand(table: Tensor, bags: list[list[int]]) -> Tensor:
    return torch.stack([table[bag].mean(0) if bag else table[0] * 0 for bag in bags])


@given(BAGS, st.sampled_from([torch.float32, torch.float64]))
def test_they_are_the_means_and_their_gradient(bags: list[list[int]], kind: torch.dtype) -> None:
    torch.manual_seed(0)
    table = torch.randn(SIZE, WIDTH, dtype=kind).requires_grad_()
    found, expected = means(table, *flat(bags)), by_hand(table, bags)
    torch.testing.assert_close(found, expected)
    arriving = torch.randn(WIDTH, len(bags), dtype=kind).T
    gradients = [torch.autograd.grad(part, table, arriving)[0] for part in (found, expected)]
    torch.testing.assert_close(*gradients)


@given(BAGS)
def test_they_are_the_same_where_nothing_is_learned(bags: list[list[int]]) -> None:
    table = torch.randn(SIZE, WIDTH)
    learned = means(table.clone().requires_grad_(), *flat(bags))
    assert torch.equal(means(table, *flat(bags)), learned)


def test_a_gradient_that_is_the_same_for_all_arrives() -> None:
    table = torch.randn(SIZE, WIDTH, requires_grad=True)
    means(table, *flat([[1, 1, 2, 2], [2]])).sum().backward()
    assert table.grad is not None
    assert table.grad[:, 0].tolist() == [0, 0.5, 1.5, 0, 0, 0]

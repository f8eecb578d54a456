"""WARP by hand: what is drawn, how large the step is, and where it goes."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch

from train.baselines.warp import WARP, _is_in, _Vectors

ITEMS = 9


def sides() -> tuple[_Vectors, _Vectors]:
    """Return one user (1, 0, 1) and items that score 3, 2.5, 0, 2.6 and then 0."""
    items = torch.zeros(ITEMS, 3)
    items[:4, 0] = torch.tensor([3.0, 2.5, 0.0, 2.6])
    users = torch.tensor([[1.0, 0.0, 1.0]])
    return _Vectors(users, torch.ones(1, 3)), _Vectors(items, torch.ones(ITEMS, 3))


def step(drawn: list[int], taken: tuple[int, ...] = (0,)) -> tuple[_Vectors, _Vectors]:
    users, items = sides()
    first = torch.zeros(1, dtype=torch.long)
    WARP(factors=2)._step(users, items, first, first, torch.tensor([drawn]), torch.tensor(taken))
    return users, items


@pytest.mark.parametrize(("drawn", "rank"), [([1, 3], 8), ([2, 1, 3], 4), ([2, 2, 1], 2)])
def test_the_first_above_the_margin_is_stepped_from_by_its_rank(
    drawn: list[int], rank: int
) -> None:
    users, items = step(drawn)
    before_users, before_items = (side.values for side in sides())
    slope = math.log(rank) * before_users[0]
    moved = 0.05 * slope / torch.sqrt(1 + slope**2)
    torch.testing.assert_close(items.values[0], before_items[0] + moved)
    torch.testing.assert_close(items.values[1], before_items[1] - moved)
    torch.testing.assert_close(items.values[2:], before_items[2:])
    slope = math.log(rank) * (before_items[1] - before_items[0])
    moved = 0.05 * slope / torch.sqrt(1 + slope**2)
    torch.testing.assert_close(users.values[0], before_users[0] - moved)
    assert users.values[0, -1] == 1


@pytest.mark.parametrize(("drawn", "taken"), [([2, 4, 5], (0,)), ([1, 3], (0, 1, 3))])
def test_a_pair_stays_where_none_is_above_or_those_above_were_taken(
    drawn: list[int], taken: tuple[int, ...]
) -> None:
    users, items = step(drawn, taken)
    torch.testing.assert_close(users.values, sides()[0].values)
    torch.testing.assert_close(items.values, sides()[1].values)


def test_several_slopes_of_a_row_are_added_up() -> None:
    users = _Vectors(torch.zeros(2, 1), torch.ones(2, 1))
    users.descend(torch.tensor([1, 1]), torch.tensor([[2.0], [1.0]]), rate=1.0)
    torch.testing.assert_close(users.values, torch.tensor([[0.0], [-3 / math.sqrt(6)]]))


def test_keys_are_found_among_the_known_ones() -> None:
    found = _is_in(torch.tensor([0, 3, 4, 9, 11]), torch.tensor([3, 9]))
    assert found.tolist() == [False, True, False, True, False]


def test_it_tells_what_was_taken_from_what_was_not() -> None:
    blocks = np.kron(np.eye(2), np.ones((12, 8))).astype(np.float32)
    blocks[0, 0] = 0
    scores = WARP(batch_size=16).learn(scipy.sparse.csr_matrix(blocks), 0)(np.arange(24))
    assert scores[0, 0] > scores[0, 8:].max()
    assert (scores[:12, :8].min(axis=1) > scores[:12, 8:].max(axis=1)).all()
    assert (scores[12:, 8:].min(axis=1) > scores[12:, :8].max(axis=1)).all()

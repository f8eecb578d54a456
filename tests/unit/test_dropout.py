"""Dropout by 16 random bits a value."""

import pytest
import torch
from torch import Tensor

from train.ops.dropout import Dropout

COUNT = 1_000_000


def dropped(share: float, values: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    found: Tensor = Dropout(share).train()(values)
    return found


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_that_share_is_dropped_and_the_mean_stays(share: float) -> None:
    found = dropped(share, torch.ones(COUNT))
    spread = (share * (1 - share) / COUNT) ** 0.5
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=5 * spread)
    assert float(found.max()) == pytest.approx(1 / (1 - share), rel=1e-4)
    assert len(found.unique()) == 2
    assert float(found.mean()) == pytest.approx(1, abs=5 * spread / (1 - share))


@pytest.mark.parametrize("apart", [1, 2, 3, 4, 5])
def test_neighbours_are_dropped_independently(apart: int) -> None:
    gone = (dropped(0.3, torch.ones(COUNT)) == 0).double()
    together = float((gone[apart:] * gone[:-apart]).mean())
    assert together == pytest.approx(0.09, abs=5 * (0.09 * 0.91 / COUNT) ** 0.5)


def test_the_gradient_is_dropped_alike() -> None:
    values = torch.rand(50, 7).add(1).requires_grad_()
    found = dropped(0.4, values)
    found.sum().backward()
    torch.testing.assert_close(values.grad, (found / values).detach())


def test_a_seed_draws_the_same_and_the_next_call_another() -> None:
    values = torch.ones(40, 25)
    first = dropped(0.5, values)
    following = Dropout(0.5).train()(values)
    assert torch.equal(dropped(0.5, values), first)
    assert not torch.equal(following, first)
    assert not torch.equal(dropped(0.5, values, seed=1), first)


@pytest.mark.parametrize("shape", [(), (3,), (5, 7), (2, 3, 5), (0, 4)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_type_stay(shape: tuple[int, ...], kind: torch.dtype) -> None:
    found = dropped(0.5, torch.ones(shape, dtype=kind))
    assert (found.shape, found.dtype) == (shape, kind)
    assert set(found.flatten().tolist()) <= {0.0, 2.0}


def test_nearly_all_is_not_all() -> None:
    found = dropped(1 - 1e-9, torch.ones(COUNT))
    assert torch.isfinite(found).all()
    assert float(found.max()) == 65536


@pytest.mark.parametrize(("share", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped_without_a_share_or_after_training(share: float, training: bool) -> None:
    values = torch.rand(1000)
    assert torch.equal(Dropout(share).train(training)(values), values)

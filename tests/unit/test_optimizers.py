"""Row-wise optimizers: what a step changes, and that it is the step it says it is."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from tests.training import gloo_worker, make_job, read_curve, validation
from train.losses.pairwise import BPR
from train.towers.light_gcn import LightGCN
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.optimizers import BETA, LARGE, Rowwise, is_rowwise

ROWS = 6
batches = st.lists(
    st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=8), min_size=1, max_size=12
)


def stepped(optimizer: Any, table: nn.Embedding, rows: list[list[int]], seed: int) -> None:
    """Take a step for each batch of rows, whose gradients are drawn."""
    draw = torch.Generator().manual_seed(seed)
    for number, batch in enumerate(rows):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - number / 20)
        optimizer.zero_grad(set_to_none=True)
        found = table(torch.tensor(batch))
        (found * torch.randn(found.shape, generator=draw)).sum().backward()
        optimizer.step()


@given(batches, st.integers(0, 100), st.sampled_from([0.0, 0.1, 2.0]))
def test_a_row_of_one_element_is_stepped_as_adamw_does(
    rows: list[list[int]], seed: int, decay: float
) -> None:
    first = torch.randn(ROWS, 1, generator=torch.Generator().manual_seed(1))
    ours = nn.Embedding.from_pretrained(first.clone(), freeze=False, sparse=True)
    theirs = nn.Embedding.from_pretrained(first.clone(), freeze=False)
    rowwise = Rowwise([ours.weight], lr=0.05, weight_decay=decay)
    stepped(rowwise, ours, rows, seed)
    rowwise.settle()
    adamw = torch.optim.AdamW([theirs.weight], betas=(0.0, BETA), weight_decay=decay)
    stepped(adamw, theirs, rows, seed)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)


def test_the_moment_of_a_row_is_the_mean_over_its_elements() -> None:
    table = nn.Embedding.from_pretrained(torch.ones(3, 4), freeze=False, sparse=True)
    optimizer = Rowwise([table.weight], lr=0.1)
    gradient = torch.tensor([3.0, 0.0, -1.0, 2.0])
    (table(torch.tensor([1])) * gradient).sum().backward()
    optimizer.step()
    wanted = 1 - 0.1 * gradient / gradient.square().mean().sqrt()
    torch.testing.assert_close(table.weight[1], wanted)
    assert table.weight[[0, 2]].eq(1).all()


def test_adagrad_adds_moments_up() -> None:
    table = nn.Embedding.from_pretrained(torch.zeros(2, 1), freeze=False, sparse=True)
    optimizer = Rowwise([table.weight], lr=1.0, adagrad=True)
    place = 0.0
    for number, gradient in enumerate([3.0, 4.0, -12.0]):
        optimizer.zero_grad(set_to_none=True)
        (table(torch.tensor([1])) * gradient).sum().backward()
        optimizer.step()
        place -= gradient / [3.0, 5.0, 13.0][number]
    assert float(table.weight[1]) == pytest.approx(place)
    assert float(table.weight[0]) == 0


def test_rows_that_are_in_no_batch_stay_where_they_are_between_epochs() -> None:
    table = nn.Embedding.from_pretrained(torch.ones(5, 2), freeze=False, sparse=True)
    optimizer = Rowwise([table.weight], lr=0.1, weight_decay=0.5)
    stepped(optimizer, table, [[1], [1, 3]], 0)
    assert table.weight[[0, 2, 4]].eq(1).all()
    optimizer.settle()
    factor = (1 - 0.05 * 0.5) * (1 - 0.05 * (1 - 1 / 20) * 0.5)
    torch.testing.assert_close(table.weight[[0, 2, 4]], torch.full((3, 2), factor))
    settled = table.weight.detach().clone()
    optimizer.settle()
    assert table.weight.equal(settled)


def test_auto_is_by_rows_where_tables_are_large() -> None:
    assert not is_rowwise("auto", LARGE - 1, True) and is_rowwise("auto", LARGE, True)
    assert not is_rowwise("auto", LARGE, LightGCN().looks_rows_up())
    assert not is_rowwise("adamw", 10 * LARGE, True) and is_rowwise("rowwise_adam", 3, True)


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "tower": TwoTower(width=8, history=5, hidden=8),
        "optimizer": "rowwise_adam",
        "batch_size": 32,
        "epochs": 2,
    }
    return make_job(**(fields | changes))


def weights(state: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = state["model"]
    return found


@pytest.mark.parametrize("optimizer", ["rowwise_adam", "rowwise_adagrad"])
def test_a_training_resumes_exactly(optimizer: Any) -> None:
    states: list[Any] = []
    keep = Worker(report=lambda _, state: states.append(copied(state)))
    whole = train(job(optimizer=optimizer, epochs=3), keep)
    resumed = train(job(optimizer=optimizer, epochs=3), Worker(), states[0])
    for name, value in weights(whole).items():
        assert value.equal(weights(resumed)[name]), name


def copied(state: Any) -> Any:
    """A state as a checkpoint has it: that of the optimizer goes on changing."""
    from train.trainer.checkpoint import checkpoint_bytes, read_checkpoint

    return read_checkpoint(checkpoint_bytes(state))


def test_rows_without_interactions_stay_zero_and_others_learn() -> None:
    known = job()
    cold = np.flatnonzero(~known.inputs.warm_items)
    assert len(cold)
    state = train(known, Worker())
    table = weights(state)["item_input.id.weight"]
    assert table[torch.tensor(np.append(cold, len(table) - 1))].eq(0).all()
    fresh = known.tower.build(known.inputs).item_input.id
    assert fresh is not None
    warm = torch.tensor(np.flatnonzero(known.inputs.warm_items))
    assert (table[warm] != fresh.weight[warm]).any(1).all()


@pytest.mark.parametrize("tower", [TwoTower(width=8, history=0), TwoTower(width=8, hidden=4)])
def test_two_workers_step_as_one_does(tower: TwoTower, tmp_path: Any) -> None:
    """The first one has no weight that DDP would average."""
    plain: dict[str, Any] = {
        "tower": tower.model_copy(update={"user_attributes": False, "item_attributes": False}),
        "loss": BPR(count=3),
        "validation": validation(),
        "epochs": 2,
    }
    shared = job(batch_size=16, **plain)
    spawn(gloo_worker, args=(2, [shared], str(tmp_path)), nprocs=2)
    alone = train(job(batch_size=32, **plain), Worker())
    for ours, theirs in zip(read_curve(tmp_path, 0), alone["curve"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["ndcg"] == pytest.approx(theirs["ndcg"], abs=2e-3)


def test_what_reads_whole_tables_can_be_stepped_by_rows_too() -> None:
    state = train(job(tower=LightGCN(width=8)), Worker())
    assert state["curve"][-1]["loss"] < state["curve"][0]["loss"]

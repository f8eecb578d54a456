"""A training that is broken after any epoch ends as the unbroken one; over `TOWERS`."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.recording import record
from tests.training import make_job, suiting, validation
from train.losses import LOSSES
from train.losses.base import Loss
from train.losses.pairwise import BPR
from train.towers import TOWERS
from train.towers.two_tower import TwoTower
from train.trainer.checkpoint import State, read_checkpoint, write_state
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.workers import train_here

EPOCHS = 3
SMALL: dict[str, Any] = {"width": 8, "history": 5}
STEPPING = [name for name, tower in TOWERS.items() if not tower.closed_form()]
CLOSED_FORM = [name for name, tower in TOWERS.items() if tower.closed_form()]


def job_of(name: str, **changes: Any) -> Job:
    """A short training, with dropout where the tower has any; validation keeps an epoch."""
    tower = TOWERS[name].model_validate(SMALL | changes)
    with suppress(ValidationError):
        tower = TOWERS[name].model_validate({"dropout": 0.3} | SMALL | changes)
    return short(tower=tower, loss=suiting(tower))


def short(**changes: Any) -> Job:
    values = {"epochs": EPOCHS, "patience": EPOCHS, "epoch_examples": 512}
    return make_job(validation=validation(), **(values | changes))


def same(one: Any, other: Any) -> bool:
    """Whether states are equal bit for bit, but for the seconds that they took."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        keys = one.keys() | other.keys()
        return all(key == "seconds" or same(one.get(key), other.get(key)) for key in keys)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def check(job: Job) -> State:
    """Break a training after each of its epochs; return the state in which it ends unbroken."""
    whole = record(job)
    assert len(whole.recorder.checkpoints) == EPOCHS
    for kept in whole.recorder.checkpoints:
        again = train(job, Worker(), read_checkpoint(kept))
        assert same(again, whole.state)
    return whole.state


def check_within(job: Job, monkeypatch: pytest.MonkeyPatch) -> State:
    """Break a training within each of its epochs too."""
    monkeypatch.setattr("train.trainer.epoch.PART", 3)
    whole = record(job, Worker(pause=0.0))
    steps = [row["step"] for row in whole.recorder.metrics if "step" in row]
    assert steps == [3, 6] * EPOCHS
    assert same(train(job, Worker()), whole.state)
    for kept in whole.recorder.checkpoints:
        assert same(train(job, Worker(), read_checkpoint(kept)), whole.state)
    return whole.state


def differ(one: State, other: State) -> bool:
    return not same(one["model"], other["model"])


@pytest.mark.parametrize("name", STEPPING)
def test_it_ends_in_the_same_bytes(name: str) -> None:
    """Dropout draws the same numbers, and another seed, or none, is another training."""
    job = job_of(name)
    state = check(job)
    assert same(train(job, Worker()), state)
    assert differ(train(replace(job, seed=1), Worker()), state)
    if job.tower.dropout:
        assert differ(train(job_of(name, dropout=0.0), Worker()), state)


@pytest.mark.parametrize("name", STEPPING)
def test_it_goes_on_within_an_epoch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_within(job_of(name), monkeypatch)


def test_a_killed_training_says_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("train.trainer.epoch.PART", 3)
    job = short(tower=TwoTower(dropout=0.3, **SMALL), checkpoint_minutes=0.0, workers=0)
    whole = train_here({"select": job}, str(tmp_path / "whole"))
    broken, written = str(tmp_path / "broken"), write_state
    kept: list[State] = []

    def killed(folder: str, state: State) -> None:
        written(folder, state)
        kept.append(state)
        if len(kept) == 5:  # in the second epoch: two parts and its end were the first three
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("train.trainer.workers.write_state", killed)
        train_here({"select": job}, broken)
    with caplog.at_level("INFO"):
        again = train_here({"select": job}, broken)
    assert "select: going on after 6 steps of epoch 2" in caplog.text
    assert "select: epoch 3, 3 of 8 steps, " in caplog.text
    assert same(again, whole)


def test_rows_go_on_within_an_epoch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = TwoTower(dropout=0.3, **SMALL)
    check_within(short(tower=tower, optimizer="rowwise_adam"), monkeypatch)


def test_hard_negatives_are_those_that_an_epoch_begins_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.trainer.epoch.PART", 3)
    job = short(tower=TwoTower(**SMALL), loss=BPR(hard=4, hard_pool=20))
    whole = record(job, Worker(pause=0.0))
    within = [row["epoch"] for row in whole.recorder.metrics if "step" in row]
    # Before the first epoch no item is harder than another.
    assert set(within) == {1}
    for kept in whole.recorder.checkpoints:
        assert same(train(job, Worker(), read_checkpoint(kept)), whole.state)


def test_without_a_pause_nothing_is_kept_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.trainer.epoch.PART", 3)
    for pause in (None, 3600.0):
        whole = record(short(tower=TwoTower(**SMALL)), Worker(pause=pause))
        assert len(whole.recorder.checkpoints) == EPOCHS


VARIANTS: list[dict[str, Any]] = [
    {"name": "dssm", "encoder": "transformer"},
    {"name": "dssm", "norm": "batch"},
    {"name": "history_transformer", "block": "ligr"},
    {"name": "two_tower", "pooling": "attention", "hidden": 8},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_its_variants_do_too(variant: dict[str, Any]) -> None:
    check(job_of(**variant))


@pytest.mark.parametrize("loss", [*LOSSES, "hard"])
def test_every_loss_goes_on_too(loss: str) -> None:
    chosen: Loss = BPR(hard=4, hard_pool=20) if loss == "hard" else LOSSES[loss]()
    score = "dot" if chosen.needs("dot") is None else "cosine"
    tower = TwoTower.model_validate({"dropout": 0.3, "score": score} | SMALL)
    check(short(tower=tower, loss=chosen, half_life=30))


@pytest.mark.parametrize("changes", [{"examples": "users"}, {"context": "before"}], ids=str)
def test_all_kinds_of_examples_go_on_too(changes: dict[str, Any]) -> None:
    check(short(loss=BPR(), tower=TwoTower(dropout=0.3, **SMALL), batch_size=16, **changes))


def test_patience_counts_on_from_the_epochs_before(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [0.2, 0.4, 0.397, 0.3, 0.1, 0.9]
    job = short(epochs=len(scores), patience=3)

    def said(after: int) -> None:
        rest = iter(scores[after:])
        monkeypatch.setattr("train.trainer.loop.validation_ndcg", lambda *given: next(rest))

    said(after=0)
    whole = record(job)
    assert (whole.state["epoch"], whole.state["best"]["epoch"]) == (5, 3)
    for done, kept in enumerate(whole.recorder.checkpoints, 1):
        said(after=done)
        assert same(train(job, Worker(), read_checkpoint(kept)), whole.state)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_what_is_fitted_at_once_is_not_fitted_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = TOWERS[name].model_validate(SMALL)
    job = short(tower=tower)
    whole = record(job)

    def fit(*given: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(type(tower), "fit", fit)
    [kept] = whole.recorder.checkpoints
    assert same(train(job, Worker(), read_checkpoint(kept)), whole.state)

"""When training stops, and which epoch it keeps."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import before, make_job, validation
from train.core.ragged import Array
from train.trainer.checkpoint import State, checkpoint_bytes, read_checkpoint
from train.trainer.job import Worker
from train.trainer.loop import train
from train.trainer.workers import Patience


def trained(monkeypatch: pytest.MonkeyPatch, scores: list[float], **changes: Any) -> State:
    """Train while the validation says these scores, one an epoch."""
    said = iter(scores)
    monkeypatch.setattr("train.trainer.loop.validation_ndcg", lambda *args: next(said))
    job = make_job(validation=validation(), epochs=len(scores), epoch_examples=64, **changes)
    return train(job, Worker())


@pytest.mark.parametrize(
    ("scores", "epochs", "kept"),
    [
        ([0.1, 0.2, 0.3, 0.4], 4, 4),
        ([0.1, 0.4, 0.3, 0.2, 0.9], 4, 2),
        # Within 1 % of the best, the later one.
        ([0.1, 0.400, 0.398, 0.2, 0.9], 4, 3),
        ([0.1, 0.400, 0.395, 0.2, 0.9], 4, 2),
        # Small steps down do not add up.
        ([0.400, 0.398, 0.395, 0.9], 3, 2),
        ([0.0, 0.0, 0.0, 0.0], 3, 3),
    ],
)
def test_it_stops_without_a_better_epoch_and_keeps_the_last_of_the_best(
    monkeypatch: pytest.MonkeyPatch, scores: list[float], epochs: int, kept: int
) -> None:
    state = trained(monkeypatch, scores, patience=2)
    assert [row["epoch"] for row in state["curve"]] == list(range(1, epochs + 1))
    assert (state["best"]["epoch"], state["best"]["ndcg"]) == (kept, scores[kept - 1])


def test_the_weights_kept_are_those_of_that_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    state = trained(monkeypatch, [0.1, 0.9, 0.1, 0.1], patience=3)
    straight = train(make_job(epochs=4, epoch_examples=64, stop_after=2), Worker())
    for name, value in straight["model"].items():
        assert torch.equal(state["best"]["weights"][name], value)


def test_a_refit_trains_as_many_epochs_as_asked() -> None:
    state = train(make_job(epochs=5, epoch_examples=64, stop_after=3), Worker())
    assert [row["epoch"] for row in state["curve"]] == [1, 2, 3]
    assert state["best"]["epoch"] == 3


def test_weights_of_interactions_reach_the_loss() -> None:
    """Only where `weighted` asks for it, and by what they are to each other."""
    past = before().interactions
    drawn = np.random.default_rng(0).integers(1, 6, len(past)).astype(np.float32)

    def loss(weight: Array, weighted: bool) -> float:
        job = make_job(interactions=replace(past, weight=weight), weighted=weighted, stop_after=1)
        return float(train(job, Worker())["curve"][0]["loss"])

    plain = loss(drawn, False)
    assert loss(np.full_like(drawn, 3), True) == pytest.approx(plain, rel=1e-6)
    assert abs(loss(drawn, True) - plain) > 1e-3
    assert loss(2 * drawn, True) == pytest.approx(loss(drawn, True), rel=1e-6)


def test_a_checkpoint_comes_back() -> None:
    state = train(make_job(epochs=1, epoch_examples=64), Worker())
    again = read_checkpoint(checkpoint_bytes(state))
    assert again["curve"] == state["curve"]
    assert all(torch.equal(again["model"][name], state["model"][name]) for name in state["model"])


def test_a_diverged_loss_names_the_settings() -> None:
    with pytest.raises(ValueError) as caught:
        train(make_job(learning_rate=1e30), Worker())
    assert str(caught.value) == (
        "the loss is nan in epoch 1; lower train.learning_rate (1e+30) "
        "or raise loss.temperature (1.0)"
    )


def test_silence_is_spoken_of_when_it_is_longer_than_epochs_are() -> None:
    """At first after 15 seconds and again each 15, later after three of the longest epochs more."""
    patience = Patience(since=100.0)
    assert [patience.is_over(now) for now in (110, 114.9, 115, 116, 129.9, 130)] == [
        False, False, True, False, False, True,
    ]  # fmt: skip
    assert patience.silent(130) == 30
    patience.heard(140.0)
    patience.heard(150.0)
    # The longest took 40 s.
    assert [patience.is_over(now) for now in (160, 284, 285, 286, 300)] == [
        False, False, True, False, True,
    ]  # fmt: skip

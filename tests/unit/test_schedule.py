"""Learning rates, orders, negatives and dropout over the steps and epochs of a training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.recording import COUNT, N_ITEMS, Recorder, Recording, pairs, pairs_job, record
from tests.training import validation
from train.core.ragged import Array, Ragged
from train.losses.base import Loss
from train.losses.pairwise import BPR
from train.losses.softmax import FullSoftmax, InBatchSoftmax, SampledSoftmax
from train.towers.encode import encode_catalogue, encode_users
from train.towers.history_transformer import HistoryTransformer
from train.towers.two_tower import TwoTower
from train.trainer.checkpoint import read_checkpoint
from train.trainer.job import Worker
from train.trainer.phases import train_phases

# Shares of the first rate are rounded by 2**-52, and the least of them is 1 / 48.
ROUNDING = 1e-12


def rates(recording: Recording | Recorder) -> list[float]:
    return [step.rate for step in recording.steps]


def falling(rate: float, steps: int) -> Array:
    """Return the rates of a line from `rate` to 0, which the step after the last one would have."""
    return rate * (1 - np.arange(steps) / steps)


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_the_rate_falls_to_0_over_all_epochs_together(epochs: int) -> None:
    found = rates(record(pairs_job(epochs=epochs, learning_rate=0.01)))
    np.testing.assert_allclose(found, falling(0.01, 8 * epochs), rtol=ROUNDING)


@pytest.mark.parametrize("done", [1, 3])
def test_the_rate_goes_on_after_a_resume_where_it_was(done: int) -> None:
    job = pairs_job(epochs=4)
    whole = record(job)
    state = read_checkpoint(whole.recorder.checkpoints[done - 1])
    assert rates(record(job, state=state)) == rates(whole)[8 * done :]


def test_a_refit_has_the_rates_of_the_epochs_it_repeats() -> None:
    found = rates(record(pairs_job(epochs=5, stop_after=3)))
    assert found == rates(record(pairs_job(epochs=5)))[: 8 * 3]


def test_a_later_phase_has_the_rates_of_the_first_ones_best_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one stops after 4 epochs of 6, and keeps the second one."""
    said = iter([0.1, 0.3, 0.2, 0.2])
    monkeypatch.setattr("train.trainer.loop.validation_ndcg", lambda *given: next(said))
    jobs = {
        "select": pairs_job(validation=validation(), epochs=6, patience=2),
        "refit": pairs_job(epochs=6),
    }
    with Recorder() as recorder:
        done = train_phases(jobs, str(tmp_path), recorder.watched)
    assert [done[phase]["epoch"] for phase in jobs] == [4, 2]
    line = falling(jobs["select"].schedule.learning_rate, 6 * 8)
    expected = [*line[: 4 * 8], *line[: 2 * 8]]
    np.testing.assert_allclose(rates(recorder), expected, rtol=ROUNDING)


def test_decay_is_that_of_the_settings_at_every_step() -> None:
    assert {step.decay for step in record(pairs_job(weight_decay=0.25)).steps} == {0.25}


def orders(**changes: Any) -> list[list[tuple[int, int]]]:
    """Return the pairs of each epoch in their order."""
    job = pairs_job(**changes)
    found = record(job)
    epochs = range(1, job.schedule.epochs + 1)
    return [[pair for step in found.epoch(epoch) for pair in step.pairs] for epoch in epochs]


def everything() -> list[tuple[int, int]]:
    known = pairs()
    return sorted(zip(known.user.tolist(), known.item.tolist(), strict=True))


def test_every_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    found = [*orders(seed=0), *orders(seed=1)]
    assert all(sorted(order) == everything() for order in found)
    # Seed 0 in epoch 2 and seed 1 in epoch 1 are different things too.
    assert len({tuple(order) for order in found}) == 6
    assert orders(seed=1) == found[3:]


def test_a_batch_size_cuts_the_same_order_elsewhere() -> None:
    assert orders(batch_size=32) == orders(batch_size=16)


def test_what_is_left_over_in_one_epoch_comes_in_another() -> None:
    """48 goes twice into 128: 32 examples are left out of each epoch."""
    found = orders(batch_size=48, epochs=8)
    assert all(len(set(order)) == len(order) == 96 for order in found)
    # All of 8 epochs miss one of the examples once in 2**16 / 128.
    assert set().union(*map(set, found)) == set(everything())


def test_short_epochs_see_everything_in_the_end() -> None:
    found = orders(epoch_examples=32, epochs=40)
    assert all(len(set(order)) == len(order) == 32 for order in found)
    # An example is left out of all of 40 with a chance of 0.75 ** 40, 1e-5.
    assert set().union(*map(set, found)) == set(everything())


def test_a_user_as_an_example_brings_everything_of_it_once_an_epoch() -> None:
    job = pairs_job(examples="users", loss=FullSoftmax(), batch_size=4)
    found = record(job)
    users = [[u for s in found.epoch(e) for u in s.users.tolist()] for e in (1, 2, 3)]
    assert all(sorted(order) == list(range(16)) for order in users)
    assert len(set(map(tuple, users))) == 3
    items = [i for step in found.epoch(1) for i in step.items.tolist()[: 4 * 8]]
    assert sorted(items) == sorted(pairs().item.tolist())


def test_windows_of_histories_come_once_an_epoch_in_another_order() -> None:
    """3 windows of at most 3 items cover 7 of the 8 of each user: the first has none before."""
    tower = HistoryTransformer(width=4, heads=1, blocks=1, history=3, dropout=0)
    found = record(pairs_job(tower=tower, batch_size=6, loss=InBatchSoftmax()))
    known = pairs()
    later = sorted(known.item.reshape(16, 8)[:, 1:].ravel().tolist())
    positives = [[i for s in found.epoch(e) for i in s.items.tolist()] for e in (1, 2, 3)]
    assert all(sorted(items) == later for items in positives)
    assert len(set(map(tuple, positives))) == 3


def worker(rank: int, size: int, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Recording:
    """Record one worker of several: alone it goes its own way, but is given what it would be."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: None)
    return record(pairs_job(**changes), Worker(rank, size))


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_workers_share_the_examples_and_negatives_of_one(
    sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = BPR.model_validate({"count": 4, "sampling": sampling})
    tower = TwoTower(width=4, history=3)
    alone = record(pairs_job(loss=loss, tower=tower, batch_size=32))
    shares = [
        worker(rank, 2, monkeypatch, loss=loss, tower=tower, batch_size=16) for rank in (0, 1)
    ]
    assert len(alone.steps) == len(shares[0].steps) == 3 * COUNT // 32
    for whole, *parts in zip(alone.steps, *(share.steps for share in shares), strict=True):
        assert torch.cat([part.users for part in parts]).equal(whole.users)
        assert torch.cat([part.history for part in parts]).equal(whole.history)
        assert [pair for part in parts for pair in part.pairs] == whole.pairs
        assert torch.cat([part.negatives for part in parts]).equal(whole.negatives)


@pytest.mark.parametrize("loss", [SampledSoftmax(count=9), BPR(count=9, shared=True)])
def test_workers_have_the_negatives_that_all_share(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = [worker(rank, 2, monkeypatch, loss=loss) for rank in (0, 1)]
    for one, other in zip(*(share.steps for share in shares), strict=True):
        assert len(one.negatives) == 9
        assert one.negatives.equal(other.negatives)
        assert not set(one.pairs) & set(other.pairs)


DRAWING = [
    BPR(count=4),
    BPR(count=4, sampling="popularity"),
    BPR(count=40, shared=True),
    SampledSoftmax(count=40),
    BPR(count=4, hard=2, hard_pool=12),
]


@pytest.mark.parametrize("loss", DRAWING, ids=lambda loss: loss.name)
def test_negatives_are_new_in_each_step_and_epoch_and_the_same_for_a_seed(loss: Loss) -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        steps = record(pairs_job(loss=loss, seed=seed)).steps
        return [tuple(step.negatives.tolist()) for step in steps]

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert one == again
    assert len({*one, *other}) == 2 * 3 * 8


@pytest.mark.parametrize(("sampling", "power"), [("uniform", 0.0), ("popularity", 0.75)])
def test_negatives_follow_their_distribution_over_a_training(sampling: str, power: float) -> None:
    """And are of what somebody took: the last item never comes."""
    loss = BPR.model_validate({"count": 50, "sampling": sampling})
    steps = record(pairs_job(loss=loss)).steps
    found = torch.cat([step.negatives for step in steps]).bincount(minlength=N_ITEMS).numpy()
    frequency = np.bincount(pairs().item, minlength=N_ITEMS).astype(float)
    expected = np.where(frequency > 0, np.maximum(frequency, 1) ** power, 0)
    assert found.sum() == 3 * COUNT * 50
    assert not found[expected == 0].any()
    expected *= found.sum() / expected.sum()
    some = expected > 0
    assert stats.chisquare(found[some], expected[some]).pvalue > 1e-6
    other = np.where(some, frequency if power else frequency**0.2, 0)
    other *= found.sum() / other.sum()
    assert stats.chisquare(found[some], other[some]).pvalue < 1e-6


def test_hard_negatives_begin_in_the_second_epoch_and_follow_the_towers() -> None:
    """Each is of the 3 best of what its user did not take, as the epoch before left the towers."""
    job = pairs_job(loss=BPR(count=6, hard=6, hard_pool=3), epochs=3, learning_rate=0.05)
    found = record(job)
    plain = record(pairs_job(loss=BPR(count=6), epochs=3, learning_rate=0.05))
    for hard, drawn in zip(found.epoch(1), plain.epoch(1), strict=True):
        assert hard.negatives.equal(drawn.negatives)
    model, pools = job.tower.build(job.inputs), []
    histories = Ragged.from_pairs(job.interactions.user, job.interactions.item, 16)
    for epoch in (2, 3):
        model.load_state_dict(read_checkpoint(found.recorder.checkpoints[epoch - 2])["model"])
        users = encode_users(model, np.arange(16), histories).astype(np.float64)
        scores = users @ encode_catalogue(model).astype(np.float64).T
        # Sums of 4 products in float32, whichever way they are added.
        rounding = 4 * np.finfo(np.float32).eps * np.abs(scores).max()
        scores[:, ~job.inputs.warm_items] = -np.inf
        scores[job.interactions.user, job.interactions.item] = -np.inf
        least = np.sort(scores, axis=1)[:, -3] - rounding
        pool = set()
        for step in found.epoch(epoch):
            for user, items in zip(step.users, step.negatives.view(-1, 6), strict=True):
                assert (scores[user, items] >= least[user]).all()
                pool |= {(int(user), int(item)) for item in items}
        # 3 of each user, 48 draws of them an epoch.
        assert len(pool) == 16 * 3
        pools.append(pool)
    assert pools[0] != pools[1]


def dropping(**changes: Any) -> list[torch.Tensor]:
    """Return where the history's mean is dropped out at each step, by halves."""
    tower = TwoTower(width=64, history=3, dropout=0.5)
    rank, size = changes.pop("rank", 0), changes.pop("size", 1)
    steps = record(pairs_job(tower=tower, context_length=3, **changes), Worker(rank, size)).steps
    assert all(len(step.dropped) == 1 for step in steps)
    return [step.dropped[0] for step in steps]


def independent(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two halves agree in half of their places, within 5 deviations of that."""
    agreed = float((one == other).double().mean())
    return abs(agreed - 0.5) < 5 * 0.5 / math.sqrt(one.numel())


def test_dropout_is_new_in_each_step_and_epoch_and_the_same_for_a_seed() -> None:
    one, again, other = dropping(seed=1), dropping(seed=1), dropping(seed=2)
    assert all(mask.equal(repeated) for mask, repeated in zip(one, again, strict=True))
    every = [*one, *other]
    apart = [(a, b) for place, a in enumerate(every) for b in every[:place]]
    assert all(independent(*both) for both in apart)


def test_dropout_goes_on_after_a_resume_where_it_was() -> None:
    job = pairs_job(tower=TwoTower(width=8, history=3, dropout=0.5))
    whole = record(job)
    state = read_checkpoint(whole.recorder.checkpoints[0])
    rest = record(job, state=state).steps
    for ours, unbroken in zip(rest, whole.steps[8:], strict=True):
        assert ours.dropped[0].equal(unbroken.dropped[0])


def test_workers_drop_out_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: None)
    shares = [dropping(rank=rank, size=2) for rank in (0, 1)]
    assert all(independent(*both) for both in zip(*shares, strict=True))

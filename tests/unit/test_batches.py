"""Batches and histories: nothing depends on how many workers share a batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training import events
from train.core.schema import Interactions
from train.towers.batches import Examples, Sampling, history_before, history_sample, user_batch
from train.trainer.examples import epoch_batches, examples, item_frequency, recency, steps_per_epoch

CPU = torch.device("cpu")
PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60)


def of(pairs: list[tuple[int, int]]) -> Examples:
    """Return the examples of (user, item) pairs in order of time."""
    user, item = np.array(pairs).T
    return examples(events(user, item), 6, CPU)


@given(PAIRS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**40))
def test_the_workers_share_the_batch_of_one_worker(
    pairs: list[tuple[int, int]], batch: int, workers: int, seed: int
) -> None:
    data = of(pairs * workers)
    steps = steps_per_epoch(len(data), batch, workers, None)
    assert steps == steps_per_epoch(len(data), batch * workers, 1, None)
    together = epoch_batches(
        torch.arange(len(data)), batch=batch, workers=workers, steps=range(steps), seed=seed
    )
    alone = epoch_batches(
        torch.arange(len(data)), batch=batch * workers, workers=1, steps=range(steps), seed=seed
    )
    for ours, single in zip(together, alone, strict=True):
        assert ours.tolist() == single.tolist()
        shares = ours.chunk(workers)
        assert len({len(share) for share in shares}) == 1
        assert len(shares) == workers


@given(PAIRS, st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_an_epoch_draws_no_example_twice_and_all_but_a_rest(
    pairs: list[tuple[int, int]], batch: int, workers: int, seed: int
) -> None:
    data = of(pairs * workers)
    steps = steps_per_epoch(len(data), batch, workers, None)
    drawn = [
        index
        for part in epoch_batches(
            torch.arange(len(data)), batch=batch, workers=workers, steps=range(steps), seed=seed
        )
        for index in part.tolist()
    ]
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(len(data)))
    assert len(data) - len(drawn) < batch * workers


def test_another_epoch_is_another_order() -> None:
    data = of([(0, i % 10) for i in range(50)])
    orders = [
        next(
            epoch_batches(torch.arange(len(data)), batch=50, workers=1, steps=range(1), seed=s)
        ).tolist()
        for s in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_an_epoch_can_be_cut() -> None:
    assert steps_per_epoch(1000, 10, 2, None) == 50
    assert steps_per_epoch(1000, 10, 2, 200) == 10
    assert steps_per_epoch(1000, 10, 2, 2000) == 50
    assert steps_per_epoch(7, 10, 1, None) == 1


@given(PAIRS, st.integers(1, 8), st.integers(0, 2**40))
def test_a_sampled_history_is_of_the_user_and_never_the_example_itself(
    pairs: list[tuple[int, int]], length: int, seed: int
) -> None:
    data = of(pairs)
    index = torch.arange(len(data))
    history = history_sample(data, index, length, seed)
    assert history.shape == (len(data), length)
    assert not (history == data.items[:, None]).any()
    for user, items in zip(data.users.tolist(), history.tolist(), strict=True):
        assert {i for i in items if i >= 0} <= {item for u, item in pairs if u == user}


@given(PAIRS, st.data(), st.integers(0, 2**40))
def test_a_sampled_history_does_not_depend_on_the_batch(
    pairs: list[tuple[int, int]], choice: st.DataObject, seed: int
) -> None:
    data = of(pairs)
    index = torch.tensor(choice.draw(st.lists(st.integers(0, len(data) - 1), min_size=1)))
    alone = [history_sample(data, one[None], 4, seed)[0].tolist() for one in index]
    assert history_sample(data, index, 4, seed).tolist() == alone


def test_samples_are_spread_evenly_and_change_with_the_seed() -> None:
    data = of([(0, i) for i in range(10)])
    index = torch.zeros(1, dtype=torch.int64)
    drawn = torch.cat([history_sample(data, index, 50, seed)[0] for seed in range(200)])
    counts = torch.bincount(drawn + 1, minlength=11)
    assert counts.sum() == 10_000
    assert counts[1] == 0
    assert (abs(counts[torch.arange(11) != 1] - 1000) < 150).all()


@given(PAIRS, st.integers(1, 8))
def test_a_history_before_is_the_newest_older_items(
    pairs: list[tuple[int, int]], length: int
) -> None:
    data = of(pairs)
    found = history_before(data, torch.arange(len(data)), length).tolist()
    for place, row in enumerate(found):
        user = int(data.users[place])
        older = [int(data.items[p]) for p in range(place) if int(data.users[p]) == user][-length:]
        assert row == [-1] * (length - len(older)) + older


@given(PAIRS, st.integers(1, 3), st.integers(0, 8), st.integers(0, 99))
def test_workers_share_the_users_of_one_worker(
    pairs: list[tuple[int, int]], workers: int, length: int, seed: int
) -> None:
    data = of(pairs)
    step = data.starts.diff().nonzero().flatten().repeat(workers)
    whole = user_batch(data, step, Sampling(seed=seed), length)
    parts = [
        user_batch(data, step, Sampling(rank, workers, seed), length) for rank in range(workers)
    ]
    assert whole.rows is not None
    assert torch.equal(whole.rows, whole.rows.sort().values)
    assert set(whole.rows.tolist()) == set(range(len(step)))
    for name in ("users", "history", "items", "positive_users"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
    assert all(torch.equal(part.global_items, whole.global_items) for part in parts)
    assert sum(part.loss_scale for part in parts) == pytest.approx(workers)


@given(PAIRS, st.integers(0, 99))
def test_without_a_history_every_interaction_of_a_user_is_a_positive(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    data = of(pairs)
    batch = user_batch(data, data.known_users(), Sampling(seed=seed), 0)
    assert batch.items.tolist() == data.items.tolist()
    assert batch.positive_users.tolist() == data.users.tolist()
    assert (batch.history == -1).all()


@given(st.integers(2, 40), st.integers(0, 2**40))
def test_what_describes_a_user_is_none_of_the_positives_and_new_each_epoch(
    count: int, seed: int
) -> None:
    data = of([(user, item) for user in (1, 4) for item in range(count)])
    batch = user_batch(data, torch.tensor([4, 1]), Sampling(seed=seed), 400)
    assert batch.rows is not None
    for row in (0, 1):
        positives, history = batch.items[batch.rows == row], batch.history[row]
        assert set(positives.tolist()) == set(range(count)) - set(history.tolist())
        assert len(positives) > 0


def test_half_of_the_interactions_are_hidden() -> None:
    data = of([(0, item) for item in range(10)])
    batches = [
        user_batch(data, torch.zeros(1).long(), Sampling(seed=seed), 5) for seed in range(400)
    ]
    counts = torch.bincount(torch.cat([batch.items for batch in batches]), minlength=10)
    # One is a positive in any case, so 5.5 of 10 are.
    assert (abs(counts - 220) < 50).all()


def test_frequencies_count_the_interactions() -> None:
    assert item_frequency(np.array([2, 0, 2], np.int32), 4).tolist() == [1, 0, 2, 0]


def test_older_interactions_weigh_less() -> None:
    weights = recency(np.array([0, 10, 20]) * 86_400, half_life=10)
    assert weights.mean() == np.float32(1)
    np.testing.assert_allclose(weights / weights[-1], [0.25, 0.5, 1], rtol=1e-6)


def test_ratings_weigh_in_proportion_and_beside_age() -> None:
    known = Interactions(
        np.zeros(3, np.int32),
        np.arange(3, dtype=np.int32),
        np.array([0, 10, 20]) * 86_400,
        np.array([5, 1, 0], np.float32),
    )
    weighted = examples(known, 1, CPU, weighted=True).weights
    assert weighted is not None
    np.testing.assert_allclose(weighted, [2.5, 0.5, 0])
    both = examples(known, 1, CPU, half_life=10, weighted=True).weights
    assert both is not None and both.mean() == 1
    np.testing.assert_allclose(both / both[1], [2.5, 1, 0], rtol=1e-6)


@pytest.mark.parametrize(("weight", "found"), [([1, -0.5], "one of -0.5"), ([0, 0], "only 0")])
def test_weights_that_cannot_count_are_refused(weight: list[float], found: str) -> None:
    zeros = np.zeros(2, np.int32)
    known = Interactions(zeros, zeros, zeros, np.array(weight, np.float32))
    with pytest.raises(ValueError, match=f"weighted: expected weights of 0 and more.*{found};"):
        known.relative_weight()

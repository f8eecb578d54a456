"""Counts as of a time, and items taken together, against plain loops."""

from itertools import combinations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.statistics import DAY, NEIGHBOURS, SHRINK, Statistics

USERS, ITEMS = 6, 9
AS_OF = 100 * DAY


@st.composite
def events(draw: st.DrawFn, earliest: int = 0, latest: int = AS_OF + 50 * DAY) -> Interactions:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(earliest, latest)
            ),
            max_size=60,
        )
    )
    user, item, time = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Interactions.ordered(user, item, time, np.ones(len(user)))


def _join(first: Interactions, second: Interactions) -> Interactions:
    parts = [
        np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("user", "item", "timestamp", "weight")
    ]
    return Interactions.ordered(*parts)


def _statistics(interactions: Interactions) -> Statistics:
    return Statistics.from_interactions(interactions, USERS, ITEMS, AS_OF)


def _equal(first: Statistics, second: Statistics) -> None:
    for name, values in first.arrays().items():
        np.testing.assert_array_equal(values, second.arrays()[name], err_msg=name)


@given(events(), events(earliest=AS_OF))
def test_nothing_at_or_after_the_time_is_used(known: Interactions, later: Interactions) -> None:
    _equal(_statistics(known), _statistics(_join(known, later)))


@given(events())
def test_against_plain_loops(interactions: Interactions) -> None:
    known = [
        (u, i, t)
        for u, i, t in zip(
            interactions.user.tolist(),
            interactions.item.tolist(),
            interactions.timestamp.tolist(),
            strict=True,
        )
        if t < AS_OF
    ]
    found = _statistics(interactions)
    for item in range(ITEMS):
        times = [t for _, i, t in known if i == item]
        assert found.item_count[item] == len(times)
        assert found.item_recent[0][item] == sum(t >= AS_OF - 7 * DAY for t in times)
        assert found.item_recent[1][item] == sum(t >= AS_OF - 30 * DAY for t in times)
        assert found.item_first[item] == min(times, default=AS_OF)
        assert found.item_last[item] == max(times, default=AS_OF)
    for user in range(USERS):
        times = [t for u, _, t in known if u == user]
        assert found.user_count[user] == len(times)
        assert found.user_last[user] == max(times, default=AS_OF)
    _check_neighbours(found, {(u, i) for u, i, _ in known})


def _check_neighbours(found: Statistics, taken: set[tuple[int, int]]) -> None:
    users = {item: {u for u, i in taken if i == item} for item in range(ITEMS)}
    weights: Array = np.zeros((ITEMS, ITEMS))
    for a, b in combinations(range(ITEMS), 2):
        both = len(users[a] & users[b])
        weights[a, b] = weights[b, a] = both and both / (
            np.sqrt(len(users[a]) * len(users[b])) + SHRINK
        )
    ours = np.zeros((ITEMS, ITEMS))
    rows = np.repeat(np.arange(ITEMS), NEIGHBOURS)
    np.add.at(ours, (rows, found.neighbours.ravel()), found.neighbour_weights.ravel())
    np.testing.assert_allclose(ours, weights, rtol=1e-5)
    assert (np.diff(found.neighbour_weights, axis=1) <= 0).all()


def test_only_the_strongest_neighbours_are_kept() -> None:
    rng = np.random.default_rng(0)
    taken = rng.random((300, 120)) < rng.uniform(0.02, 0.5, 120)
    user, item = np.nonzero(taken)
    ones = np.ones(len(user))
    found = Statistics.from_interactions(
        Interactions.ordered(user, item, np.zeros(len(user)), ones), 300, 120, AS_OF
    )
    counts = taken.astype(np.float64).T @ taken
    weights = counts / (np.sqrt(np.outer(taken.sum(0), taken.sum(0))) + SHRINK)
    np.fill_diagonal(weights, 0)
    expected = -np.sort(-weights, axis=1)[:, :NEIGHBOURS]
    np.testing.assert_allclose(found.neighbour_weights, expected, rtol=1e-5)
    rows = np.arange(120)[:, None]
    np.testing.assert_allclose(weights[rows, found.neighbours], expected, rtol=1e-5)


def test_blocks_give_what_one_product_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    interactions = Interactions.ordered(
        rng.integers(0, 50, 2_000), rng.integers(0, 80, 2_000), np.zeros(2_000), np.ones(2_000)
    )
    whole = Statistics.from_interactions(interactions, 50, 80, AS_OF)
    monkeypatch.setattr("train.data.statistics.BLOCK", 500)
    _equal(whole, Statistics.from_interactions(interactions, 50, 80, AS_OF))


def test_long_histories_count_by_their_last_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.statistics.MULTIPLICATIONS", 1)
    item = np.arange(60)
    found = Statistics.from_interactions(
        Interactions.ordered(np.zeros(60), item, item, np.ones(60)), 1, 60, AS_OF
    )
    assert not found.neighbour_weights[:40].any()
    assert ((found.neighbour_weights[40:] > 0).sum(axis=1) == 19).all()


@pytest.mark.parametrize(("seconds", "counts"), [(-1, 0), (0, 1), (1, 1)])
def test_a_recent_window_is_closed_where_it_begins(seconds: int, counts: int) -> None:
    """It is `[as_of - days, as_of)`, to the second."""
    for window, days in enumerate((7, 30)):
        time = AS_OF - days * DAY + seconds
        found = _statistics(Interactions.ordered(*np.array([[2], [4], [time], [1]])))
        assert found.item_recent[window].tolist() == [0] * 4 + [counts] + [0] * 4


def test_popular() -> None:
    item = np.array([4, 4, 4, 2, 2, 7, 7, 1])
    time = np.array([0, 0, 0, 0, 0, AS_OF - 1, AS_OF - 1, AS_OF - 20 * DAY])
    found = _statistics(Interactions.ordered(np.zeros(8), item, time, np.ones(8)))
    assert found.popular().tolist() == [4, 2, 7, 1, 0, 3, 5, 6, 8]
    assert found.popular(recent=True).tolist() == [7, 1, 4, 2, 0, 3, 5, 6, 8]


@given(events())
def test_stored_and_rebuilt(interactions: Interactions) -> None:
    found = _statistics(interactions)
    stored = safetensors.numpy.save(found.arrays())
    _equal(found, Statistics.from_arrays(safetensors.numpy.load(stored)))


def test_missing_array() -> None:
    arrays = _statistics(Interactions.ordered(*np.zeros((4, 0)))).arrays()
    del arrays["item_first"]
    with pytest.raises(ValueError, match=r"missing: \['item_first'\]"):
        Statistics.from_arrays(arrays)

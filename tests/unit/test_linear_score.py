"""The linear score against its formula, and at the edges of what can be known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.linear_score import LinearScore
from train.rerankers.scaling import standardized_by_request

USERS, ITEMS = 30, 12
COLD = ITEMS - 1


def _interactions(seed: int = 0, count: int = 200) -> Interactions:
    """Return some with repeats, weights from 1 to 5, and an item that nobody took."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, USERS, count), rng.integers(0, COLD, count)
    return Interactions.ordered(user, item, np.arange(count), rng.integers(1, 6, count))


def _taken(known: Interactions, weighted: bool) -> Array:
    """Return the matrix that is regressed on itself, `[U, I]`."""
    taken = np.zeros((USERS, ITEMS))
    np.add.at(taken, (known.user, known.item), known.weight / known.weight.mean())
    return taken if weighted else (taken > 0).astype(float)


def _scores(taken: Array, score: LinearScore) -> Array:
    """Return the scores of all users by the formula, with a whole decomposition, `[U, I]`."""
    warm = taken.sum(axis=0) > 0
    popularity = taken[:, warm].sum(axis=0)
    scale = (popularity / popularity.mean()) ** -score.discount
    _, singular, right = np.linalg.svd(taken[:, warm] * scale, full_matrices=False)
    squares, right = singular[: score.rank] ** 2, right[: score.rank]
    shares = squares / (squares + score.regularization * singular[0] ** 2)
    scores = np.zeros(taken.shape)
    scores[:, warm] = taken[:, warm] * scale @ right.T * shares @ right / scale
    return scores


def _histories(known: Interactions) -> Ragged:
    return Ragged.from_pairs(known.user, known.item, USERS)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("settings", [{}, {"regularization": 0}, {"discount": 0}, {"discount": 1}])
def test_it_is_the_ridge_regression_in_few_dimensions(
    weighted: bool, settings: dict[str, float]
) -> None:
    known = _interactions()
    score = LinearScore.model_validate({"rank": 4, "weighted": weighted, **settings})
    model = score.fit(known, USERS, ITEMS)
    users = model.users(np.arange(USERS), _histories(known))
    expected = _scores(_taken(known, weighted), score)
    np.testing.assert_allclose(users @ model.decode.T, expected, rtol=1e-3, atol=1e-4)
    assert not (users @ model.decode.T)[:, COLD].any()


def test_a_request_adds_items_that_count_once() -> None:
    known = _interactions()
    model = LinearScore(rank=4, weighted=True).fit(known, USERS, ITEMS)
    before = _histories(known).take(np.array([3]))
    new = next(item for item in range(COLD) if item not in before.values)
    more = before.join(Ragged.from_rows([[new, before.values[0], new]]))
    user = np.array([3])
    added = model.users(user, more) - model.users(user, before)
    np.testing.assert_allclose(added[0], model.encode[new], rtol=1e-4, atol=1e-5)
    stranger = model.users(np.array([-1]), Ragged.from_rows([[new, 2]]))
    np.testing.assert_allclose(stranger[0], model.encode[[new, 2]].sum(axis=0), rtol=1e-5)


def test_a_history_stays_as_it_was() -> None:
    model = LinearScore(rank=4).fit(_interactions(), USERS, ITEMS)
    history = Ragged.from_rows([[5, 2, 5, 0]])
    model.users(np.array([0]), history)
    assert history.values.tolist() == [5, 2, 5, 0]


def test_twice_as_many_users_change_nothing() -> None:
    """Regularization is over what there is: it means the same for few and for many users."""
    known = _interactions()
    twice = Interactions.ordered(
        np.concatenate([known.user, known.user + USERS]),
        *(np.tile(part, 2) for part in (known.item, known.timestamp, known.weight)),
    )
    score = LinearScore(rank=4)
    one, two = score.fit(known, USERS, ITEMS), score.fit(twice, 2 * USERS, ITEMS)
    np.testing.assert_allclose(
        one.encode @ one.decode.T, two.encode @ two.decode.T, rtol=1e-3, atol=1e-4
    )


@given(st.integers(0, 3), st.integers(1, 20), st.booleans())
def test_little_to_know_leaves_the_shapes(count: int, rank: int, weighted: bool) -> None:
    model = LinearScore(rank=rank, weighted=weighted and count > 0).fit(
        _interactions(count=count), USERS, ITEMS
    )
    assert model.encode.shape == model.decode.shape == (ITEMS, rank)
    users = model.users(np.array([0, -1]), Ragged.from_rows([[1], []]))
    assert users.shape == (2, rank) and np.isfinite(users @ model.decode.T).all()


def test_no_rank_is_no_model() -> None:
    assert not LinearScore().fit(_interactions(), USERS, ITEMS)
    assert LinearScore(rank=1).fit(_interactions(), USERS, ITEMS)


def test_standardized_by_request() -> None:
    scores = np.array([[1.0, 3.0, 5.0, 99.0], [2.0, 2.0, 2.0, 2.0]])
    present = np.array([[True, True, True, False], [True] * 4])
    found = standardized_by_request(scores, present)
    deviation = np.sqrt(8 / 3)
    np.testing.assert_allclose(found[0], [-2 / deviation, 0, 2 / deviation, 0])
    assert not found[1].any()
    assert not standardized_by_request(scores, np.zeros((2, 4), bool)).any()


def test_scores_that_are_equal_but_for_their_rounding_do_not_deviate() -> None:
    same = np.full((1, 3), 0.1, np.float32)
    same[0, 1] = np.nextafter(same[0, 1], np.float32(1))
    assert not standardized_by_request(same, np.ones((1, 3), bool)).any()
    assert not standardized_by_request(
        np.full((1, 7), 0.7, np.float32), np.ones((1, 7), bool)
    ).any()

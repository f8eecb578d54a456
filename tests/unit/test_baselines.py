"""Collaborative filtering by hand, on matrices of a few users and items."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from tests.training import GENERATED, before, plain_inputs, small
from train.baselines import linear, sparse_ease
from train.baselines.factorizations import ALS, SVD
from train.baselines.knn import ItemKNN, UserKNN, _idf, places, where
from train.baselines.linear import EASE, SLIM, _co_occurrences
from train.baselines.popularity import ALL_TIME, Popularity, RecentPopularity
from train.baselines.sparse_ease import _at_most
from train.config import Run
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.snapshot import Holdout, validation_holdout
from train.data.statistics import DAY, Statistics
from train.evaluation.settings import Evaluation
from train.steps import prepare

# Of six users, the first took items 0 and 1, the second 0, 1 and 2, and so on.
TAKEN = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
USERS = np.arange(len(TAKEN))


def matrix(taken: Any) -> Any:
    return scipy.sparse.csr_matrix(np.asarray(taken, np.float32))


def draw(users: int, items: int) -> Array:
    return (np.random.default_rng(0).random((users, items)) < 0.4).astype(np.float32)


def test_item_neighbours_are_cosines_weighted_by_idf() -> None:
    taken = np.eye(3)
    taken[0, 1] = 1
    # Of three items a user of two has weight ln(3 / 3) = 0, a user of one ln(3 / 2): what is left
    # is no user of item 0, the second of item 1 and the third of item 2.
    scores = ItemKNN(neighbours=3).learn(matrix(taken), 0)(np.arange(3))
    np.testing.assert_allclose(scores, [[0, 1, 0], [0, 1, 0], [0, 0, 1]], atol=1e-12)


def test_item_neighbours_equal_dense_cosines() -> None:
    taken = draw(12, 9)
    weighted = taken.T * (np.log(9) - np.log1p(taken.sum(axis=1)))
    unit = weighted / np.linalg.norm(weighted, axis=1, keepdims=True)
    every = ItemKNN(neighbours=9).learn(matrix(taken), 0)(np.arange(12))
    np.testing.assert_allclose(every, taken @ (unit @ unit.T), rtol=1e-6, atol=1e-9)
    similar = unit @ unit.T
    similar[similar < np.sort(similar, axis=1)[:, -4:-3]] = 0
    nearest = ItemKNN(neighbours=4).learn(matrix(taken), 0)(np.arange(12))
    np.testing.assert_allclose(nearest, taken @ similar, rtol=1e-6, atol=1e-9)


def test_user_neighbours_equal_dense_bm25() -> None:
    taken = draw(12, 30)
    length = taken.sum(axis=1, keepdims=True) / taken.sum(axis=1).mean()
    idf = np.log(12) - np.log1p(taken.sum(axis=0))
    weighted = taken * 2.2 / (1.2 * (0.25 + 0.75 * length) + 1) * idf
    similar = weighted @ weighted.T
    similar[similar < np.sort(similar, axis=1)[:, -5:-4]] = 0
    scores = UserKNN(neighbours=5).learn(matrix(taken), 0)(np.arange(12))
    np.testing.assert_allclose(scores, similar @ taken, rtol=1e-5, atol=1e-7)


def test_svd_equals_numpys() -> None:
    left, values, right = np.linalg.svd(TAKEN, full_matrices=False)
    expected = (left[:, :2] * values[:2]) @ right[:2]
    scores = SVD(rank=2).learn(matrix(TAKEN), 0)(USERS)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_regularized_svd_of_full_rank_is_ridge_regression_of_the_items_on_themselves() -> None:
    pairs = TAKEN.T @ TAKEN
    weights = np.linalg.solve(pairs + 2.5 * np.eye(3), pairs)
    scores = SVD(rank=3, regularization=2.5).learn(matrix(TAKEN), 0)(USERS)
    np.testing.assert_allclose(scores, TAKEN @ weights, atol=1e-5)


def test_an_svd_of_more_than_the_rank_of_the_data_is_finite() -> None:
    ones = np.ones((4, 3))
    ones[0, 0] = 0
    scores = SVD(rank=3).learn(matrix(ones), 0)(np.arange(4))
    np.testing.assert_allclose(scores, ones, atol=1e-5)


def test_a_weighted_svd_learns_from_relative_weights_of_pairs() -> None:
    known = before()
    # Everything twice: weights of a pair are added.
    past = known.interactions.take(np.repeat(np.arange(len(known.interactions)), 2))
    drawn = np.random.default_rng(0).integers(1, 6, len(past)).astype(np.float32)
    rated = replace(known, interactions=replace(past, weight=drawn))
    dense = np.zeros((len(known.histories), len(known.inputs.warm_items)))
    np.add.at(dense, (past.user, past.item), drawn / drawn.mean())
    users, items = np.flatnonzero(known.inputs.warm_users), np.flatnonzero(known.inputs.warm_items)
    expected = SVD(rank=5).learn(matrix(dense[np.ix_(users, items)]), 0)(np.arange(len(users)))
    scores = SVD(rank=5, weighted=True).fit(rated, 7, 0)(users)[:, items]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.abs(scores - SVD(rank=5).fit(rated, 7, 0)(users)[:, items]).max() > 0.1


def test_svd_says_when_there_are_too_few_items() -> None:
    with pytest.raises(ValueError, match="svd of rank 81 needs as many warm items, found"):
        SVD(rank=81).fit(before(), 7, 0)


def test_als_tells_what_was_taken_from_what_was_not() -> None:
    blocks = np.kron(np.eye(2), np.ones((4, 3)))
    blocks[0, 0] = 0
    als = ALS(factors=2, alpha=1, regularization=0.01)
    scores = als.learn(matrix(blocks), 0)(np.arange(8))
    assert scores[0, 0] > scores[0, 3:].max() + 0.3
    assert scores[blocks == 1].min() > scores[:4, 3:].max()


def test_ease_by_hand() -> None:
    # X^T X + I = [[3, 1], [1, 3]] has the inverse [[3, -1], [-1, 3]] / 8.
    weights = EASE(regularization=1).weights(matrix([[1, 1], [1, 0], [0, 1]]))
    np.testing.assert_allclose(weights, [[0, 1 / 3], [1 / 3, 0]], rtol=1e-6)


def test_ease_solves_ridge_regression_without_the_item_itself() -> None:
    weights = EASE(regularization=0.5).weights(matrix(TAKEN))
    np.testing.assert_array_equal(np.diag(weights), 0)
    # Off the diagonal the gradient of the squares, X^T X B + l B - X^T X, is 0.
    pairs = TAKEN.T @ TAKEN
    gradient = (pairs + 0.5 * np.eye(3)) @ weights - pairs
    np.testing.assert_allclose(gradient[~np.eye(3, dtype=bool)], 0, atol=1e-6)
    scores = EASE(regularization=0.5).learn(matrix(TAKEN), 0)(USERS[2:4])
    np.testing.assert_allclose(scores, TAKEN[2:4] @ weights, rtol=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 100.0])
def test_ease_is_as_exact_as_float32_can_be(penalty: float) -> None:
    taken = draw(400, 90)
    added = taken.T.astype(np.float64) @ taken + penalty * np.eye(90)
    inverse = np.linalg.inv(added)
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    weights = EASE(regularization=penalty).weights(matrix(taken))
    assert weights.dtype == np.float32
    tolerance = 10 * np.finfo(np.float32).eps * np.linalg.norm(added, 2) / penalty
    assert np.abs(weights - expected).max() <= tolerance * np.abs(expected).max()


def test_ease_of_a_penalty_that_float32_loses_is_solved_in_float64() -> None:
    taken = np.vstack([np.ones((3000, 2)), np.eye(2)])
    for penalty in (1e-6, 1e-3):
        # X^T X + penalty I = [[3001 + penalty, 3000], [3000, 3001 + penalty]].
        weights = EASE(regularization=penalty).weights(matrix(taken))
        weight = 3000 / (3001 + penalty)
        expected = np.array([[0, weight], [weight, 0]])
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(300, 20), (30, 40)])
def test_co_occurrences_are_counted_alike_by_dense_and_sparse_products(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = draw(*shape)
    for cost in (0, 10**9):
        monkeypatch.setattr(linear, "MULTIPLIED", cost)
        monkeypatch.setattr(linear, "BLOCK", 7 * shape[1])
        np.testing.assert_array_equal(_co_occurrences(matrix(taken)), taken.T @ taken)


def test_ease_of_few_neighbours_is_ridge_regression_on_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "DENSE_ITEMS", 10)
    monkeypatch.setattr(sparse_ease, "NEIGHBOURS", 4)
    monkeypatch.setattr(sparse_ease, "STEP", 5)
    taken = draw(60, 12)
    pairs = taken.T.astype(np.float64) @ taken
    unit = taken / np.linalg.norm(taken, axis=0)
    expected = np.zeros((12, 12))
    for item, cosines in enumerate(unit.T @ unit - 2 * np.eye(12)):
        near = np.argsort(-cosines)[:4]
        added = pairs[np.ix_(near, near)] + 2 * np.eye(4)
        expected[near, item] = np.linalg.solve(added, pairs[near, item])
    ease = EASE(regularization=2)
    np.testing.assert_allclose(ease.weights(matrix(taken)).toarray(), expected, atol=1e-6)
    scores = ease.learn(matrix(taken), 0)(np.array([7, 2]))
    np.testing.assert_allclose(scores, taken[[7, 2]] @ expected, atol=1e-5)


def test_ease_of_all_neighbours_is_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = draw(60, 12)
    dense = EASE(regularization=2).weights(matrix(taken))
    monkeypatch.setattr(linear, "DENSE_ITEMS", 10)
    monkeypatch.setattr(sparse_ease, "NEIGHBOURS", 11)
    sparse = EASE(regularization=2).weights(matrix(taken)).toarray()
    np.testing.assert_allclose(sparse, dense, atol=1e-5)


def test_an_item_that_nobody_shares_has_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "DENSE_ITEMS", 2)
    weights = EASE(regularization=1).weights(matrix([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    expected = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) / 3
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-6)


@pytest.mark.parametrize("products", [1, 100, 250, 10**6])
def test_pairs_of_the_longest_histories_are_bounded(products: int) -> None:
    taken = np.tril(np.ones((12, 12), np.float32))
    some = _at_most(matrix(taken), products)
    lengths = np.diff(some.indptr)
    limit = int(lengths.max())
    np.testing.assert_array_equal(lengths, np.minimum(np.arange(1, 13), limit))
    assert (some.toarray() <= taken).all()
    assert limit == 1 or (lengths**2).sum() <= products
    assert limit == 12 or (np.minimum(np.arange(1, 13), limit + 1) ** 2).sum() > products


def test_a_neighbourhood_is_cut_by_value_and_then_by_item() -> None:
    rows = matrix([[0, 3, 5, 3], [1, 0, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
    expected = [[0, 3, 5, 0], [1, 0, 0, 0], [0, 0, 0, 0], [2, 2, 0, 0]]
    np.testing.assert_array_equal(where(rows, places(rows) < 2).toarray(), expected)


def test_the_window_of_recent_popularity_is_the_one_that_tells() -> None:
    """Item 0 was popular long ago, item 1 last week, and item 2 is now."""
    item = np.repeat([0, 1, 2], [50, 30, 10])
    days_ago = np.repeat([200, 20, 2], [50, 30, 10])
    past = Interactions.ordered(np.arange(90), item, 10**9 - days_ago * DAY, np.ones(90))
    known = replace(
        before(),
        interactions=past,
        as_of=10**9,
        histories=Ragged.from_pairs(past.user, past.item, 94),
        statistics=Statistics.from_interactions(past, 94, 3, 10**9),
        inputs=plain_inputs(94, 3),
        catalogue=np.ones(3, bool),
    )
    for best, days in ((0, ALL_TIME), (1, 90), (2, 14)):
        ahead = Holdout(np.arange(90, 94, dtype=np.int32), Ragged.from_rows([[best]] * 4), known)
        assert RecentPopularity().tuned(ahead, 7, 1, 0).days == days
    assert RecentPopularity().tuned(ahead.take(np.array([], int)), 5, 1, 0).days == 5


def test_the_log_says_what_is_picked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data, folds = small()
    picked = EASE().tuned(validation_holdout(data, folds, before()), 7, 10, 0)
    assert f"ease: picked regularization = {picked.regularization}, the best of 9 on" in caplog.text
    assert "users of the validation window, NDCG@10 0." in caplog.text


def test_pairs_of_items_are_refused_where_they_are_too_many() -> None:
    SLIM().check(20_000, Features.empty(0))
    with pytest.raises(ValueError, match="20,000; found 20,001 warm items; take slim out"):
        SLIM().check(20_001, Features.empty(0))


@pytest.mark.parametrize(("alpha", "ratio"), [(0.02, 0.5), (0.1, 0.3), (0.05, 0.0), (0.3, 0.9)])
def test_slim_equals_an_elastic_net_of_each_item(alpha: float, ratio: float) -> None:
    taken = draw(200, 12)
    expected = np.zeros((12, 12))
    for item in range(12):
        others = taken.copy()
        others[:, item] = 0
        net = ElasticNet(alpha=alpha, l1_ratio=ratio, positive=True, fit_intercept=False, tol=1e-10)
        with warnings.catch_warnings():
            # Without an L1 penalty it warns of itself.
            warnings.simplefilter("ignore", ConvergenceWarning)
            expected[:, item] = net.fit(others, taken[:, item]).coef_
    slim = SLIM(alpha=alpha, l1_ratio=ratio, tolerance=1e-9)
    weights = slim.weights(matrix(taken)).toarray()
    np.testing.assert_allclose(weights, expected, atol=2e-6)
    scores = slim.learn(matrix(taken), 0)(np.array([3, 1]))
    np.testing.assert_allclose(scores, taken[[3, 1]] @ expected, atol=2e-5)


def test_slim_has_weights_and_drops_those_below_its_penalty() -> None:
    # Of 5 users 3 took items 0 and 1, and one of these item 2: with the penalties 0.3 on items
    # alone (0.6, 0.6) and together (0.6), and 0.2 with item 2, w = (0.6 - 0.3) / (0.6 + 0.3).
    taken = matrix([[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]])
    weights = SLIM(alpha=0.6, l1_ratio=0.5, tolerance=1e-9).weights(taken).toarray()
    expected = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) / 3
    np.testing.assert_allclose(weights, expected, atol=1e-7)


def test_slim_says_when_it_has_not_converged(caplog: pytest.LogCaptureFixture) -> None:
    SLIM(alpha=0.02, steps=2).weights(matrix(draw(30, 8)))
    assert "slim: 8 items have not converged; raise its steps" in caplog.text


def test_what_a_baseline_refuses_is_refused_before_any_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.baselines.linear.LINEAR_ITEMS", 50)
    run = Run(data=GENERATED, evaluation=Evaluation(baselines=(SLIM(),)))
    with pytest.raises(ValueError, match=r"at most 50; found 7\d warm items"):
        prepare(run)


def test_popularity_counts() -> None:
    counts = before().statistics.item_count
    np.testing.assert_array_equal(Popularity().fit(before(), 7, 0)(USERS), [counts] * len(USERS))


def test_recent_popularity_counts_recent_ones_first() -> None:
    statistics = before().statistics
    scores = RecentPopularity(days=30).fit(before(), 7, 0)(USERS[:1])[0]
    place = statistics.recent_days.tolist().index(30)
    order = np.lexsort((-statistics.item_count, -statistics.item_recent[place]))
    np.testing.assert_allclose(scores[order], np.sort(scores)[::-1])
    np.testing.assert_array_equal(scores, RecentPopularity().fit(before(), 30, 0)(USERS[:1])[0])


def test_recent_popularity_counts_any_window() -> None:
    known = before()
    events = known.interactions
    recent = events.item[events.timestamp >= known.as_of - 11 * DAY]
    scores = RecentPopularity(days=11).fit(known, 7, 0)(USERS[:1])[0]
    size = len(known.inputs.warm_items)
    np.testing.assert_array_equal(np.floor(scores), np.bincount(recent, minlength=size))


@pytest.mark.parametrize("count", [3, 14, 48, 74, 185])
def test_what_everybody_else_took_weighs_exactly_nothing(count: int) -> None:
    """Of so many rows, `log(n) - log1p(n - 1)` is not 0 where logarithms are not vectorized."""
    taken = np.ones((count, 3), np.float32)
    taken[0, 0], taken[1:, 2] = 0, 0
    idf = _idf(matrix(taken))
    expected = [0, np.log(count / (1 + count)), np.log(count / 2)]
    assert idf[0] == 0
    np.testing.assert_allclose(idf, expected, rtol=1e-15)


def test_an_svd_of_more_than_the_rank_of_the_data_tells_nothing_of_what_nobody_does() -> None:
    """Two kinds of users: what another user took in a third way is projected on these."""
    kinds = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]], np.float32)
    taken = np.vstack([np.repeat(kinds, 20, axis=0), np.zeros((1, 5))])
    exact, more = (SVD(rank=rank).factorize(matrix(taken), 0)[1] for rank in (2, 4))
    other = np.array([1, 0, 0, 0, 1])
    np.testing.assert_allclose(other @ more @ more.T, other @ exact @ exact.T, atol=1e-5)

"""The bootstrap over users: of a mean, and of many ratios at once."""

import numpy as np
import pytest

from train.metrics.bootstrap import _summable, bootstrap, bootstrap_ratios, mean_over_users, nested


def test_bootstrap_finds_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    mean, low, high = bootstrap(values, samples=4000, seed=1)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - error, abs=0.1 * error)
    assert high == pytest.approx(mean + error, abs=0.1 * error)


def test_bootstrap_is_seeded_and_leaves_nan_out() -> None:
    values = np.array([0.1, 0.5, np.nan, 0.3])
    assert bootstrap(values, 500, seed=3) == bootstrap(values[[0, 1, 3]], 500, seed=3)
    assert bootstrap(values, 500, seed=3) != bootstrap(values, 500, seed=4)
    assert np.isnan(bootstrap(np.array([np.nan]))).all()


def test_bootstrap_of_many_users_draws_every_sample() -> None:
    """More users than fit one block of resamples."""
    values = np.random.default_rng(0).normal(size=2**22 // 3)
    mean, low, high = bootstrap(values, samples=10)
    assert low < mean < high


def test_columns_at_once_have_the_intervals_of_each_alone() -> None:
    values = np.random.default_rng(2).random((90, 3))
    sums, weights = mean_over_users(values)
    ends = np.array(bootstrap_ratios(sums, weights, 300, seed=5))
    for column in range(3):
        expected = bootstrap(values[:, column], 300, seed=5)
        assert ends[:, column].tolist() == pytest.approx(expected)


def test_a_mean_over_pairs_varies_as_users_do() -> None:
    """Users whose pairs are all alike: as many independent values as users, not as pairs."""
    rng = np.random.default_rng(0)
    users, pairs = 400, 25
    each = rng.normal(size=users)
    weights = np.full((users, 1), float(pairs))
    mean, low, high = (float(v[0]) for v in bootstrap_ratios(each[:, None] * pairs, weights, 3000))
    assert mean == pytest.approx(each.mean())
    assert high - low == pytest.approx(2 * 1.96 * each.std() / np.sqrt(users), rel=0.1)


def test_users_with_more_pairs_weigh_more() -> None:
    mean, low, high = bootstrap_ratios(np.array([[3.0], [0.0]]), np.array([[3.0], [1.0]]), 500)
    assert (mean[0], low[0], high[0]) == (0.75, 0.0, 1.0)


def test_a_column_that_nobody_counts_in_is_nan() -> None:
    sums, weights = np.ones((4, 2)), np.array([[1.0, 0.0]] * 4)
    for end in bootstrap_ratios(sums, weights, 50):
        assert end[0] == 1.0
        assert np.isnan(end[1])


def test_one_counting_user_among_many_has_an_interval() -> None:
    """A resample without that user says nothing, and is left out."""
    sums, weights = np.zeros((5, 1)), np.zeros((5, 1))
    sums[2], weights[2] = 0.4, 1.0
    ends = [float(end[0]) for end in bootstrap_ratios(sums, weights, 50)]
    assert ends == pytest.approx([0.4, 0.4, 0.4])


def test_reports_are_nested_by_path() -> None:
    one = np.ones(5), np.ones(5)
    report = nested({("a", "x"): one, ("a", "y"): one, ("b",): one}, 100, seed=0)
    value = {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert report == {"a": {"x": value, "y": value}, "b": value}


def test_the_order_of_users_and_how_many_are_summed_at_a_time_change_no_bit() -> None:
    values = np.random.default_rng(0).normal(size=(997, 3))
    sums, _ = mean_over_users(values)
    counts = np.random.default_rng(1).multinomial(997, np.full(997, 1 / 997), 50).astype(float)
    exact = _summable(sums)
    np.testing.assert_allclose(exact, sums, atol=1e-12)
    found = counts @ exact
    backwards = counts[:, ::-1] @ exact[::-1]
    parts = sum(counts[:, at : at + 7] @ exact[at : at + 7] for at in range(0, 997, 7))
    np.testing.assert_array_equal(found, backwards)
    np.testing.assert_array_equal(found, parts)


def test_gains_that_cancel_are_exactly_0() -> None:
    """However they are ordered: no interval lies above 0 for the rounding of their sum."""
    gains = np.random.default_rng(0).normal(size=301)
    values = np.random.default_rng(1).permutation(np.concatenate([gains, -gains]))
    assert bootstrap(values)[0] == 0
    assert bootstrap(np.zeros(10)) == (0, 0, 0)

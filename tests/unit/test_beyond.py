"""Diversity, popularity bias and debiased NDCG, by hand; and what new users get."""

import numpy as np
import pytest

from tests.bundles import make_recommender
from tests.training import events, histories
from train.core.ragged import Ragged
from train.evaluation.new_users import measure_new_users
from train.metrics.beyond import (
    debiased_ndcg,
    diversity,
    gini,
    interaction_rows,
    inverse_propensity,
    popularity,
)
from train.metrics.ranking import per_user

# Items 0 and 1 have the same users, item 2 shares one of two with each, item 3 has none.
HISTORIES = histories([[0, 1, 2], [0, 1], [2, 2]])


def test_diversity_is_1_less_the_mean_cosine_of_pairs() -> None:
    rows = interaction_rows(HISTORIES, 4)
    ranked = np.array([[0, 1, 2], [1, 0, -1], [2, 3, -1], [3, -1, -1]])
    found = diversity(ranked, rows, 3)
    np.testing.assert_allclose(found[:3], [1 - (1 + 0.5 + 0.5) / 3, 0.0, 1.0], atol=1e-12)
    assert np.isnan(found[3])
    np.testing.assert_allclose(diversity(ranked[:1], rows, 2), [0.0], atol=1e-12)


def test_popularity_is_the_mean_count_of_what_is_shown() -> None:
    ranked = np.array([[0, 2], [1, -1], [-1, -1]])
    np.testing.assert_array_equal(popularity(ranked, np.array([9, 4, 1]), 2), [5.0, 4.0, np.nan])


@pytest.mark.parametrize(
    ("shown", "expected"),
    [([[0, 1], [2, 3]], 0.0), ([[0, 0], [0, 0]], 0.75), ([[0, 1], [0, 1]], 0.5)],
)
def test_gini_of_four_items(shown: list[list[int]], expected: float) -> None:
    catalogue = np.array([True, True, True, True, False])
    assert gini(np.array(shown), catalogue, 2) == pytest.approx(expected)


def test_gini_of_nothing_is_undefined() -> None:
    assert np.isnan(gini(np.full((2, 2), -1), np.ones(3, bool), 2))


def test_rare_items_weigh_more_up_to_a_limit() -> None:
    weights = inverse_propensity(np.array([400, 100, 1, 0]))
    np.testing.assert_allclose(weights, [1.0, 2.0, 10.0, 10.0])


def test_a_debiased_ndcg_counts_a_hit_by_its_weight() -> None:
    relevant, weights = Ragged.from_rows([[0, 1], [0], []]), np.array([1.0, 3.0, 1.0])
    ranked = np.array([[0, 2, 1], [2, 1, 0], [0, 1, 2]])
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    expected = [(1 + 3 * third) / (3 + second), third, np.nan]
    np.testing.assert_allclose(debiased_ndcg(ranked, relevant, weights, 3), expected)


def test_with_equal_weights_it_is_the_ndcg() -> None:
    rng = np.random.default_rng(0)
    ranked = rng.permuted(np.tile(np.arange(30), (20, 1)), axis=1)[:, :10]
    rows = [rng.choice(30, size, replace=False).tolist() for size in rng.integers(0, 15, 20)]
    relevant = Ragged.from_rows(rows)
    found = debiased_ndcg(ranked, relevant, np.full(30, 7.0), 10)
    np.testing.assert_allclose(found, per_user(ranked, relevant, 10)["ndcg"])


def test_new_users_are_measured_by_the_answer_to_nobody() -> None:
    recommender = make_recommender(users=30, items=60, reranked=False)
    # Users 30 and 31 came later: the recommender has a place for them, and no history.
    empty = Ragged(recommender.histories.values, np.append(recommender.histories.offsets, [0, 0]))
    empty.offsets[-2:] = empty.offsets[-3]
    object.__setattr__(recommender, "histories", empty)
    best = recommender.popular[:2]
    other = next(item for item in recommender.popular[::-1] if item not in best)
    ahead = events(np.array([3, 30, 30, 31]), np.array([best[0], best[0], best[0], other]))
    found = measure_new_users(recommender, ahead, np.ones(4, bool), 1, 0)
    assert (found["users"], found["interactions"], found["source"]) == (2, 2, "popular")
    assert found["hit_rate"]["mean"] == found["ndcg"]["mean"] == 0.5
    known = np.array([True, False, False, False])
    assert measure_new_users(recommender, ahead, known, 1, 0) == {}

"""What plots show of a test: recall by number of candidates, and densities of scores."""

from functools import cache

import numpy as np
import pytest

from tests.training import exact_recommender, small
from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout, held_out, snapshot
from train.evaluation.diagnostics import PAIRS, diagnose, recall_by_count, score_densities
from train.evaluation.evaluate import recall_at_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates


@cache
def case(taste: float = 1.0) -> tuple[Recommender, Holdout]:
    """Return vectors of users near what they take in the test, by `taste`, and the test."""
    data, folds = small()
    known = snapshot(data, folds.before_test, folds.t2, 7)
    window = held_out(data, folds, known)
    rng = np.random.default_rng(0)
    items = rng.normal(size=(len(data.items), 16)).astype(np.float32)
    users = rng.normal(size=(len(data.users), 16)).astype(np.float32)
    np.add.at(users, window.users[window.relevant.rows], taste * items[window.relevant.values])
    return exact_recommender(data, known, users, items, candidates=17), window


def test_recall_rises_with_candidates_and_is_that_of_the_report() -> None:
    stage, window = case()
    found = recall_by_count(stage, window, 0)
    counts, mean = found["recall_counts"], found["recall_mean"]
    assert 17 in counts
    assert (np.diff(counts) > 0).all()
    assert (np.diff(mean) >= 0).all()
    assert ((found["recall_low"] <= mean) & (mean <= found["recall_high"])).all()
    # All unseen items are as many candidates as there can be.
    assert counts[-1] == stage.catalogue.sum()
    assert mean[-1] == 1.0
    queries, vectors = of_known_users(stage, window.users), stage.user_vectors[window.users]
    ranked = find_candidates(stage, queries, vectors, np.full(len(vectors), 17)).items
    expected = recall_at_candidates(ranked, window.relevant).mean()
    assert mean[counts == 17] == pytest.approx(expected)


def test_densities_tell_a_planted_taste_from_none() -> None:
    aucs = []
    for taste in (1.0, 0.0):
        found = score_densities(*case(taste), 0)
        aucs.append(float(found["score_auc"][0]))
        width = np.diff(found["score_edges"])
        for name in ("score_positive", "score_negative"):
            assert (found[name] * width).sum() == pytest.approx(1.0)
    assert aucs[0] > 0.8
    assert aucs[1] == pytest.approx(0.5, abs=0.05)
    shown = score_densities(*case(1.0), 0)
    middle = (shown["score_edges"][1:] + shown["score_edges"][:-1]) / 2
    positive, negative = ((shown[f"score_{of}"] * middle).sum() for of in ("positive", "negative"))
    assert positive > negative


def test_the_auc_is_the_share_of_pairs_in_order() -> None:
    """One user and one item that is neither seen nor taken, so that it is every negative."""
    stage, test = case()
    known = stage.histories
    user = int(np.argmax(known.lengths))
    catalogue = np.flatnonzero(stage.catalogue)
    seen = set(known.take(np.array([user])).values.tolist())
    free = [int(item) for item in catalogue if item not in seen]
    relevant = Ragged.from_rows([free[:-1] * 60])
    window = Holdout(np.array([user], np.int32), relevant, test.known)
    found = score_densities(stage, window, 0)
    scores: Array = (stage.item_vectors @ stage.user_vectors[user]).astype(np.float64)
    expected = np.mean([scores[item] > scores[free[-1]] for item in free[:-1]])
    assert found["score_auc"][0] == pytest.approx(expected)


def test_large_tests_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAIRS < 10**6
    monkeypatch.setattr("train.evaluation.diagnostics.USERS", 40)
    stage, window = case()
    one, again, other = (diagnose(stage, window, seed) for seed in (1, 1, 2))
    assert set(one) == set(other)
    np.testing.assert_array_equal(one["recall_mean"], again["recall_mean"])
    assert (one["recall_mean"] != other["recall_mean"]).any()

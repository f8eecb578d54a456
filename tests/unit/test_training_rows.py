"""Rows of stage 2: of all users where these are few, of a bounded part where they are many."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.bundles import make_recommender
from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.recommender.gate import single_sources
from train.recommender.ranking import described
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.recommender.stage_two import CUT, fit_stage_two, judged
from train.recommender.training_rows import (
    Bounds,
    TooFewError,
    divided,
    labels_of,
    sufficient_training_set,
    training_set,
)
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.cross_validation import cross_fit, earns
from train.rerankers.logit import Logit
from train.rerankers.training_set import TrainingSet, sampled
from train.sources.lists import ListSource

USERS, ITEMS, CANDIDATES = 240, 120, 40


@cache
def stage() -> Recommender:
    """Return stage 1 of two sources."""
    made = make_recommender(USERS, ITEMS, reranked=False)
    popular = ListSource(made.statistics.item_count.astype(np.float32), made.catalogue)
    return replace(
        made,
        candidates=CANDIDATES,
        sources={"list": popular},
        quotas={"tower": None, "list": 15},
    )


@cache
def window() -> Holdout:
    """Return a third of the users with one to six unseen items each, some of them candidates."""
    rng, made = np.random.default_rng(3), stage()
    users = np.arange(0, USERS - 1).astype(np.int32)
    near = np.argsort(-(made.user_vectors[users] @ made.item_vectors.T), axis=1)[:, 20:80]
    rows = np.repeat(np.arange(len(users)), rng.integers(1, 7, len(users)))
    items = near[rows, rng.integers(0, 60, len(rows))]
    keys = np.unique(rows * ITEMS + items)
    seen = made.histories.rows * ITEMS + made.histories.values
    keys = keys[~np.isin(keys, seen)]
    pairs = np.divmod(keys, ITEMS)
    return Holdout(users, Ragged.from_pairs(*pairs, len(users)), None)  # type: ignore[arg-type]


def at_once(users: Array, truth: Ragged) -> TrainingSet:
    """Return the rows of all users, described together."""
    requests, vectors = of_known_users(stage(), users), stage().user_vectors[users]
    found = find_candidates(stage(), requests, vectors, np.full(len(users), CANDIDATES))
    rows = described(stage(), requests, vectors, found)
    names = training_set(stage(), window().take(np.arange(2))).feature_names
    labels = labels_of(rows, truth, ITEMS)
    return TrainingSet(rows, labels, stage().item_vectors, names, truth)


def same(ours: TrainingSet, theirs: TrainingSet) -> None:
    for name in ("features", "query", "item", "user_vectors", "importance"):
        one, other = getattr(ours.rows, name), getattr(theirs.rows, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)
            assert one.dtype == other.dtype
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.ground_truth is not None and theirs.ground_truth is not None
    np.testing.assert_array_equal(ours.ground_truth.offsets, theirs.ground_truth.offsets)
    np.testing.assert_array_equal(ours.ground_truth.values, theirs.ground_truth.values)
    assert ours.judged == theirs.judged


@pytest.mark.parametrize("block", [7, 100, 1024])
def test_few_users_are_described_as_all_at_once(block: int) -> None:
    expected = at_once(window().users, window().relevant)
    found = training_set(stage(), window(), Bounds(block=block))
    same(found, expected)
    assert found.rows.features.flags.f_contiguous
    np.testing.assert_array_equal(cross_fit(Logit(), found), cross_fit(Logit(), expected))


@pytest.mark.parametrize("rows", [0, 300, 10**6])
def test_rows_do_not_depend_on_the_block(rows: int) -> None:
    bounds = Bounds(judged=60, rows=rows, negatives=5)
    whole = training_set(stage(), window(), bounds)
    for block in (1, 13, 100):
        same(training_set(stage(), window(), replace(bounds, block=block)), whole)


def test_judged_users_have_all_their_rows_and_others_a_sample_with_a_positive() -> None:
    found = training_set(stage(), window(), Bounds(judged=60, rows=300, negatives=5))
    first, others = divided(window(), 60)
    assert not set(first.users) & set(others.users)
    assert len(first.users) == found.judged == found.requests_judged == 60
    expected = at_once(first.users, first.relevant)
    inside = found.rows.query < 60
    np.testing.assert_array_equal(found.rows.features[inside], expected.rows.features)
    np.testing.assert_array_equal(found.labels[inside], expected.labels)
    assert found.rows.importance is not None and found.ground_truth is not None
    assert (found.rows.importance[inside] == 1).all()
    assert 300 - CANDIDATES < (~inside).sum() <= 300
    assert found.ground_truth.lengths[60:].sum() == 0
    for request in range(60, len(found.rows.user_vectors)):
        own = found.rows.query == request
        assert found.labels[own].any()
        user = others.users[
            (stage().user_vectors[others.users] == found.rows.user_vectors[request]).all(axis=1)
        ]
        everything = at_once(user, others.relevant.take(np.flatnonzero(others.users == user)))
        kept = np.isin(everything.rows.item, found.rows.item[own])
        np.testing.assert_array_equal(everything.rows.features[kept], found.rows.features[own])
        assert found.labels[own].sum() == everything.labels.sum()


def test_weights_of_sampled_rows_stand_for_all_candidates() -> None:
    found = training_set(stage(), window(), Bounds(judged=20, rows=10**6, negatives=8))
    rows = found.rows
    assert rows.importance is not None
    further = (rows.query >= 20) & (found.labels == 0)
    assert rows.importance[found.labels > 0].max() == 1
    requests = len(rows.user_vectors) - 20
    positives = (found.labels[rows.query >= 20] > 0).sum()
    expected = requests * CANDIDATES - positives
    assert rows.importance[further].sum() == pytest.approx(expected, rel=0.1)


def test_a_sample_is_not_sampled_again() -> None:
    found = training_set(stage(), window(), Bounds(judged=20, rows=10**6, negatives=8))
    again = sampled(found, negatives=3, max_rows=10**6, seed=0).rows
    assert again.importance is not None and found.rows.importance is not None
    further = found.rows.query >= 20
    np.testing.assert_array_equal(again.item[again.query >= 20], found.rows.item[further])
    np.testing.assert_array_equal(
        again.importance[again.query >= 20], found.rows.importance[further]
    )
    assert (again.query < 20).sum() < (~further).sum()


def test_rerankers_are_judged_by_the_judged_users_alone() -> None:
    bounds = Bounds(judged=80, rows=10**6, negatives=5)
    found = training_set(stage(), window(), bounds)
    scores = cross_fit(CatBoost(iterations=20), found)
    assert not scores[found.rows.query >= 80].any()
    assert scores[found.rows.query < 80].any()
    truth = found.ground_truth
    assert truth is not None
    assert len(judged(found, scores)) == 80
    assert earns(found, scores)["queries"] == (truth.lengths > 0).sum()
    singles = single_sources(stage(), divided(window(), 80)[0], CUT)
    assert {len(system.ndcg) for system in singles} == {80}


def test_the_further_users_are_learned_from() -> None:
    """What was fitted on the judged users alone scores otherwise."""
    bounds = Bounds(judged=80, rows=10**6, negatives=5)
    found = training_set(stage(), window(), bounds)
    alone = training_set(stage(), window(), replace(bounds, rows=0))
    assert alone.judged is None
    inside = found.rows.query < 80
    assert (cross_fit(Logit(), found)[inside] != cross_fit(Logit(), alone)).any()


def test_stage_two_of_many_users(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Bounds(judged=100, negatives=5)
    monkeypatch.setattr(Bounds, "of", lambda kinds: few)
    second = fit_stage_two((Logit(), CatBoost(iterations=20)), stage(), window(), 0, 1)
    assert second.reranker is not None
    truth = divided(window(), 100)[0].relevant
    assert second.gate["users"] == (truth.lengths > 0).sum()
    systems = [row["system"] for row in second.gate["ladder"]]
    assert systems == ["list", "tower", "stage_1", "logit", "catboost"]


def test_too_few_positives_among_the_judged() -> None:
    with pytest.raises(TooFewError, match="of 10 users of the validation window"):
        sufficient_training_set(stage(), window(), Bounds(judged=10))


def test_bounds_suit_every_kind() -> None:
    bounds = Bounds.of((Logit(negatives=200, max_rows=10), CatBoost(negatives=30, max_rows=20)))
    assert (bounds.rows, bounds.negatives) == (20, 30)
    assert Bounds.of(()).rows == 0

"""What every baseline keeps; a new entry of `BASELINES` is tested by being there."""

from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pytest

from tests.training import before, events, plain_inputs, small
from train.baselines import BASELINES
from train.baselines.base import Baseline, Collaborative, Scorer, mean_ndcg
from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout, Snapshot, held_out, snapshot, validation_holdout
from train.data.splits.base import TEST, TRAIN
from train.data.statistics import Statistics
from train.index.exact import rank_scores
from train.metrics.ranking import per_user

COLD = 3
K = 10
# Settings that make one fast where its own are for more data.
QUICK: dict[str, dict[str, Any]] = {"catboost_content": {"iterations": 200}}


@cache
def case() -> tuple[Snapshot, Holdout]:
    """Return what was known before the test, nothing of item 3 and of user 0, and the test."""
    data, folds = small()
    known = (folds.fold >= TRAIN) & (folds.fold < TEST)
    known &= (data.interactions.item != COLD) & (data.interactions.user != 0)
    before = snapshot(data, known, folds.t2, 7)
    return before, held_out(data, folds, before)


@cache
def fitted(baseline: Baseline) -> Scorer:
    return baseline.fit(case()[0], 7, 0)


def ranked(baseline: Baseline, users: Array) -> Array:
    known, _ = case()
    seen = known.histories.take(users)
    return rank_scores(fitted(baseline), users, known.inputs.warm_items, seen, K, block=32)


@pytest.fixture(params=BASELINES)
def baseline(request: pytest.FixtureRequest) -> Baseline:
    return BASELINES[request.param](**QUICK.get(request.param, {}))


def test_it_is_called_as_its_key(baseline: Baseline) -> None:
    assert BASELINES[baseline.name] is type(baseline)


def test_scores_are_finite_and_of_the_users_asked_for(baseline: Baseline) -> None:
    known, _ = case()
    score = fitted(baseline)
    users = np.array([5, 0, 17, 5])
    scores = score(users)
    assert scores.shape == (4, len(known.inputs.warm_items))
    assert np.issubdtype(scores.dtype, np.floating)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[0], scores[3])
    np.testing.assert_allclose(score(users[2:3])[0], scores[2], rtol=1e-5, atol=1e-7)


def test_scores_may_be_written_over(baseline: Baseline) -> None:
    score = fitted(baseline)
    users = np.array([1, 2])
    scores = score(users)
    kept = scores.copy()
    scores[:] = -np.inf
    np.testing.assert_array_equal(score(users), kept)


def test_the_same_seed_gives_the_same_scores(baseline: Baseline) -> None:
    known, window = case()
    first, again = (baseline.fit(known, 7, 5)(window.users) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_it_ranks_no_seen_and_no_cold_item(baseline: Baseline) -> None:
    known, _ = case()
    users = np.arange(len(known.histories))
    found = ranked(baseline, users)
    assert found.shape == (len(users), K)
    assert (found >= 0).all()
    assert COLD not in found
    histories = known.histories.take(users)
    seen = np.zeros((len(users), len(known.inputs.warm_items)), bool)
    seen[histories.rows, histories.values] = True
    assert not np.take_along_axis(seen, found, axis=1).any()


@cache
def chance() -> float:
    """Return the recall of a random order, a mean over several."""
    known, window = case()
    shape = len(known.histories), len(known.inputs.warm_items)
    seen, warm = known.histories.take(window.users), known.inputs.warm_items
    noise = np.random.default_rng(0).random((5, *shape))
    orders = [rank_scores(n.__getitem__, window.users, warm, seen, K) for n in noise]
    return float(np.mean([per_user(r, window.relevant, K)["recall"].mean() for r in orders]))


def test_it_beats_random_order(baseline: Baseline) -> None:
    _, window = case()
    recall = per_user(ranked(baseline, window.users), window.relevant, K)["recall"].mean()
    # Histories tell far more than popularity here, as the data was drawn from tastes.
    assert recall > (2 if isinstance(baseline, Collaborative) else 1.15) * chance()


@cache
def window() -> Holdout:
    """Return the validation window, and what was known before it."""
    data, folds = small()
    return validation_holdout(data, folds, before())


@cache
def tuned(baseline: Baseline) -> Baseline:
    return baseline.tuned(window(), 7, K, 0)


def open_settings(baseline: Baseline) -> set[str]:
    """Return the settings that are still to be picked."""
    return {key for key in chain(*baseline.grid) if getattr(baseline, key) is None}


def test_what_is_none_is_picked_and_nothing_else_changes(baseline: Baseline) -> None:
    picked = tuned(baseline)
    assert type(picked) is type(baseline)
    assert not open_settings(picked)
    assert open_settings(baseline) == {
        key for key in type(baseline).model_fields if getattr(picked, key) != getattr(baseline, key)
    }
    for key in open_settings(baseline):
        [values] = [stage[key] for stage in baseline.grid if key in stage]
        assert getattr(picked, key) in baseline.options(key, values, window().known)
    assert baseline.tuned(window(), 7, K, 0) == picked


def test_what_is_set_stays(baseline: Baseline) -> None:
    for key, values in chain(*(stage.items() for stage in baseline.grid)):
        given = baseline.model_copy(update={key: values[0]})
        assert getattr(tuned(given), key) == values[0]
    assert tuned(tuned(baseline)) == tuned(baseline)


def test_what_is_picked_ranks_no_worse_than_other_choices(baseline: Baseline) -> None:
    """Of the last stage, with the stages before as they were picked."""
    known, picked = window().known, tuned(baseline)
    best = mean_ndcg(picked.fit(known, 7, 0), window(), K)
    for key, values in (baseline.grid[-1] if baseline.grid else {}).items():
        for value in picked.options(key, values, known):
            other = picked.model_copy(update={key: value})
            # Neighbours that tie and singular vectors by random projections differ where a larger
            # set was cut, so that a choice may rank a few users otherwise.
            assert mean_ndcg(other.fit(known, 7, 0), window(), K) < best + 0.02


def test_it_is_picked_by_what_was_known_alone(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Snapshot] = []
    trials = type(baseline).trials

    def recorded(self: Any, choices: Any, known: Snapshot, *rest: int) -> Any:
        given.append(known)
        return trials(self, choices, known, *rest)

    monkeypatch.setattr(type(baseline), "trials", recorded)
    baseline.tuned(window(), 7, K, 0)
    assert all(known is window().known for known in given)
    assert bool(given) == bool(baseline.grid)


def test_without_users_it_is_its_fallback(baseline: Baseline) -> None:
    nobody = window().take(np.array([], dtype=np.int64))
    picked = baseline.tuned(nobody, 7, K, 0)
    assert not open_settings(picked)
    known = window().known
    first, other = (of.fit(known, 7, 0)(np.arange(3)) for of in (picked, baseline))
    np.testing.assert_array_equal(first, other)


def few() -> Holdout:
    """Return a holdout of 5 users and 4 items, none with an attribute."""
    past = events(np.array([0, 0, 1, 1, 2, 2, 3, 4]), np.array([0, 1, 1, 2, 0, 2, 3, 1]))
    known = replace(
        before(),
        interactions=past,
        as_of=100,
        histories=Ragged.from_pairs(past.user, past.item, 5),
        statistics=Statistics.from_interactions(past, 5, 4, 100),
        inputs=plain_inputs(5, 4),
        catalogue=np.ones(4, bool),
    )
    return Holdout(np.array([0, 3], np.int32), Ragged.from_rows([[2], [0]]), known)


def test_it_is_picked_and_fitted_on_five_users_and_four_items(baseline: Baseline) -> None:
    holdout = few()
    if "content" in baseline.name:
        pytest.skip("it needs attributes")
    picked = baseline.tuned(holdout, 7, K, 0)
    assert not open_settings(picked)
    scores = picked.fit(holdout.known, 7, 0)(np.arange(5))
    assert scores.shape == (5, 4)
    assert np.isfinite(scores).all()

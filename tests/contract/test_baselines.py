"""What every baseline keeps; a new entry of `BASELINES` is tested by being there."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.training import small
from train.baselines import BASELINES
from train.baselines.base import Baseline, Collaborative, Scorer
from train.core.ragged import Array
from train.data.snapshot import Holdout, Snapshot, held_out, snapshot
from train.data.splits.base import TEST, TRAIN
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

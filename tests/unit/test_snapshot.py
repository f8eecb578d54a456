"""Which users of the validation window decide, and which others are learned from with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.training import generated
from train.baselines.factorizations import ALS
from train.data.snapshot import (
    like_test,
    of_fewer_users,
    snapshot,
    some_users,
    validation_holdout,
)
from train.data.splits.base import TRAIN
from train.data.splits.times import Time
from train.datasets.generated import Generated

DATA = Generated(users=300, items=120, interactions=9_000, tastes=6)


def test_a_run_validates_the_same_few_users_with_what_each_took() -> None:
    data, folds = generated(DATA)
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    window = validation_holdout(data, folds, known)
    few, again = some_users(window, 20), some_users(window, 20)
    assert few.users.tolist() == again.users.tolist() == np.unique(few.users).tolist()
    assert len(few.users) == len(few.relevant) == 20 < len(window.users)
    places = np.searchsorted(window.users, few.users)
    taken = window.relevant.take(places)
    assert few.users.tolist() == window.users[places].tolist()
    assert few.relevant.values.tolist() == taken.values.tolist()
    assert few.relevant.offsets.tolist() == taken.offsets.tolist()


def test_all_of_them_where_there_are_no_more() -> None:
    data, folds = generated(DATA)
    window = validation_holdout(data, folds, snapshot(data, folds.fold == TRAIN, folds.t1, 7))
    assert some_users(window, None) is some_users(window, len(window.users)) is window


def test_users_like_those_of_the_test_unless_they_are_too_few() -> None:
    data, folds = generated(DATA)
    before = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    window = validation_holdout(data, folds, before)
    split = Time(min_user_history=20, min_user_test=3)
    like = like_test(window, split)
    enough = before.histories.lengths[window.users] >= 20
    enough &= window.relevant.lengths >= 3
    assert 0 < enough.sum() < len(enough)
    assert like.users.tolist() == window.users[enough].tolist()
    assert like.relevant.lengths.min() >= 3
    assert len(like_test(window, split, int(enough.sum())).users) == enough.sum()
    assert like_test(window, split, int(enough.sum()) + 1) is window
    assert like_test(window, Time(min_user_test=10**6)) is window


@pytest.mark.parametrize("most", [0, 2_000, 4_000, 10**6])
def test_fewer_users_are_whole_and_the_others_are_nobody(most: int) -> None:
    data, folds = generated(DATA)
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    window = some_users(validation_holdout(data, folds, known), 20)
    fewer = of_fewer_users(window, most)
    if most >= len(known.interactions):
        assert fewer is window
        return
    events, there = fewer.known.interactions, np.unique(fewer.known.interactions.user)
    own = int(known.histories.lengths[window.users].sum())
    assert len(events) <= max(most, own) and np.isin(window.users, there).all()
    assert len(events) > 0.9 * min(most, own) or not most
    # Who is there has everything, and who is not is neither learned from nor asked about.
    kept = known.interactions.take(np.isin(known.interactions.user, there))
    assert events.item.tolist() == kept.item.tolist()
    lengths = fewer.known.histories.lengths
    assert np.flatnonzero(lengths).tolist() == there.tolist()
    assert (lengths[there] == known.histories.lengths[there]).all()
    assert np.flatnonzero(fewer.known.inputs.warm_users).tolist() == there.tolist()
    assert fewer.known.inputs.warm_items is known.inputs.warm_items
    assert fewer.known.catalogue is known.catalogue
    again = of_fewer_users(window, most)
    assert again.known.interactions.user.tolist() == events.user.tolist()


def test_als_picks_on_some_users_with_a_regularization_for_these(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, folds = generated(DATA)
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    window, fitted = validation_holdout(data, folds, known), []
    learn_each = ALS.learn_each

    def spied(self: ALS, choices: Sequence[ALS], matrix: Any, *rest: Any) -> Any:
        fitted.append(([choice.regularization for choice in choices], int(matrix.nnz)))
        return learn_each(self, choices, matrix, *rest)

    monkeypatch.setattr(ALS, "learn_each", spied)
    monkeypatch.setattr(ALS, "picked_on", 2_000)
    with caplog.at_level("INFO"):
        picked = ALS(alpha=10, factors=8).tuned(some_users(window, 20), 7, 10, 0)
    [(penalties, count)] = fitted
    events = int(known.statistics.user_count.sum())
    share = float(penalties[0] or 0) ** 2 / 100**2
    assert count <= 2_000 and share == pytest.approx(count / events, rel=0.05)
    np.testing.assert_allclose(np.array(penalties) / share**0.5, [100, 30, 10])
    assert picked.regularization in (100, 30, 10)
    assert "fitted to 1,9" in caplog.text or "fitted to 2,0" in caplog.text
    assert ALS(regularization=40).for_share(0.25).regularization == 20

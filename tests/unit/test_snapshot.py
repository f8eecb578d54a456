"""Which users of the validation window decide when training stops."""

import numpy as np

from tests.training import generated
from train.data.snapshot import like_test, snapshot, some_users, validation_holdout
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

"""Splits on interactions small enough to divide by hand, and their errors."""

import re
from datetime import datetime

import numpy as np
import pytest
from pydantic import ValidationError

from train.core.schema import Interactions
from train.data.pairs import first_pairs
from train.data.splits.auto import AutoSplit
from train.data.splits.base import DAY, Folds, Split
from train.data.splits.leave_last import LeaveLast
from train.data.splits.random import Random
from train.data.splits.times import LastDays, Time
from train.data.splits.window import Window, sentence


def interactions(*rows: tuple[int, int, int]) -> Interactions:
    """Rows of user, item and time."""
    user, item, time = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Interactions.ordered(user, item, time, np.ones(len(user)))


def folds(split: Split, events: Interactions) -> Folds:
    return split.folds(events, n_users=5, n_items=10)


# Users 0 and 1 are there all along, 2 only after time 80; item 9 is new at 90.
EVENTS = interactions(
    (0, 0, 10), (0, 1, 20), (0, 2, 60), (0, 3, 80), (0, 0, 85), (0, 9, 90),
    (1, 0, 15), (1, 3, 40), (1, 2, 70), (1, 1, 95),
    (2, 0, 81), (2, 1, 99),
)  # fmt: skip


def test_time_counts_what_is_warm_and_new_to_the_user():
    found = folds(Time(at=80, validation_at=60), EVENTS)
    assert found.fold.tolist() == [0, 0, 1, 2, -1, -1, 0, 0, 1, 2, -1, -1]
    assert (found.t1, found.t2) == (60, 80)
    assert found.test_users.tolist() == [0, 1]
    assert found.fold.dtype == np.int8
    assert found.test_users.dtype == np.int32


def test_cold_users_and_items_count_where_they_may():
    split = Time(at=80, validation_at=60, warm_users=False, warm_items=False)
    found = folds(split, EVENTS)
    assert found.fold.tolist() == [0, 0, 1, 2, -1, 2, 0, 0, 1, 2, 2, 2]
    assert found.test_users.tolist() == [0, 1, 2]


def test_items_below_their_minimum_are_left_out_everywhere():
    # Item 3 has one interaction before the test, items 0, 1 and 2 have two, one and two.
    found = folds(Time(at=80, validation_at=60, min_item_train=2, warm_users=False), EVENTS)
    assert found.fold.tolist() == [0, -1, 1, -1, -1, -1, 0, -1, 1, -1, 2, -1]


def test_users_below_their_minimum_are_cold():
    events = interactions((0, 0, 1), (0, 1, 60), (0, 2, 90), (1, 2, 2), (1, 0, 91))
    found = folds(Time(at=80, validation_at=50, min_user_train=2, warm_items=False), events)
    assert found.fold.tolist() == [0, 1, 2, -1, -1]
    cold = Time(at=80, validation_at=50, min_user_train=2, warm_items=False, warm_users=False)
    assert folds(cold, events).fold.tolist() == [0, 1, 2, -1, 2]


def test_users_need_a_history_and_enough_in_the_test():
    # Before the test both have three; in it user 0 has one new warm pair, user 1 has one.
    split = Time(at=80, validation_at=60, min_user_history=3)
    assert folds(split, EVENTS).test_users.tolist() == [0, 1]
    with pytest.raises(ValueError, match="min_user_history=4"):
        folds(split.model_copy(update={"min_user_history": 4}), EVENTS)
    enough = Time(at=80, validation_at=60, warm_items=False, min_user_test=2)
    assert folds(enough, EVENTS).test_users.tolist() == [0]


def test_quantiles_are_interpolated_and_ties_stay_before():
    events = interactions(*[(0, i, t) for i, t in enumerate([0, 10, 20, 30, 40, 50, 60, 60, 70])])
    split = Time(quantile=0.6, validation_quantile=0.5, warm_items=False)
    found = folds(split, events)
    assert found.t2 == int(np.quantile(events.timestamp, 0.6)) + 1 == 49
    assert found.t1 == 21
    assert found.fold.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    tied = folds(split.model_copy(update={"quantile": 0.75}), events)
    assert (tied.t2, tied.fold.tolist()) == (61, [0, 0, 0, 0, 1, 1, 1, 1, 2])


def test_moments_as_text_and_as_dates():
    noon = 1_709_294_400
    for moment in ("2024-03-01T12:00", "2024-03-01T13:00+01:00", datetime(2024, 3, 1, 12), noon):
        split = Time.model_validate({"at": moment, "validation_at": noon - 9})
        events = interactions((0, 0, noon - 10), (0, 1, noon - 1), (0, 2, noon))
        found = split.model_copy(update={"warm_items": False}).folds(events, 1, 3)
        assert (found.t2, found.fold.tolist()) == (noon, [0, 1, 2])


def test_last_days():
    times = [0, 3 * DAY, 5 * DAY, 6 * DAY, 7 * DAY]
    events = interactions(*[(0, item, time) for item, time in enumerate(times)])
    found = LastDays(days=2, validation_days=2, warm_items=False).folds(events, 1, 5)
    # Two days back from the newest are open at the older end.
    assert found.fold.tolist() == [0, 0, 1, 2, 2]
    assert (found.t1, found.t2) == (3 * DAY + 1, 5 * DAY + 1)


def test_leave_last():
    events = interactions(
        *[(0, item, time) for item, time in enumerate([5, 1, 9, 7, 3])], (1, 0, 100), (1, 1, 101)
    )
    found = LeaveLast(test=1, validation=2, warm_items=False).folds(events, 2, 5)
    assert events.timestamp.tolist() == [1, 3, 5, 7, 9, 100, 101]
    assert found.fold.tolist() == [0, 0, 1, 1, 2, 0, 0]
    assert (found.t1, found.t2) == (102, 102)
    assert found.test_users.tolist() == [0]


def test_first_pairs_in_time():
    events = interactions((0, 4, 1), (0, 5, 2), (0, 4, 3), (1, 4, 0), (1, 4, 0))
    assert first_pairs(events, 6).tolist() == [True, True, False, True, False]


def test_an_empty_test_says_how_many_there_are_and_what_to_change():
    with pytest.raises(ValueError) as caught:
        folds(Time(at=80, validation_at=60, min_user_test=4), EVENTS)
    assert str(caught.value) == (
        "empty split: no test interactions are left. Of 12 interactions the cut put 4 in train, "
        "2 in validation and 6 in test; the minimum counts and warm filters kept 4 in train, 2 in "
        "validation and 0 in test. Move the cut or lower the minimum counts (min_user_train=1, "
        "min_item_train=1, warm_users=True, warm_items=True, min_user_history=0, min_user_test=4, "
        "at=80, quantile=None, validation_quantile=0.9, validation_at=60)"
    )


@pytest.mark.parametrize(
    "split", [Time(at=5), Time(at=1000), LastDays(days=1), Time(), LeaveLast()]
)
def test_every_empty_fold_is_an_error(split):
    one = interactions((0, 0, 10), (1, 1, 10))
    with pytest.raises(ValueError, match="empty split: no "):
        folds(split, one)
    with pytest.raises(ValueError, match="empty split: no train, validation, test"):
        folds(split, interactions())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at": 5, "quantile": 0.5}, "takes at or quantile, not both; drop one"),
        ({"at": "last week"}, "expected seconds since 1970 or an ISO date or time .* 'last week'"),
        ({"quantile": 1.0}, "less than 1"),
        ({"min_user_trian": 1}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValidationError, match=re.compile(message)):
        Time(**settings)


def test_repeats_count_where_they_are_allowed():
    # In the test user 0 has item 3, item 0 again and item 9, which is new; user 1 has item 1.
    split = Time(at=80, validation_at=60, warm_items=False)
    events = interactions(
        (0, 0, 10), (0, 1, 20), (0, 2, 60), (0, 3, 80), (0, 0, 85), (0, 0, 88), (0, 9, 90),
        (1, 0, 15), (1, 3, 40), (1, 3, 70), (1, 1, 95),
    )  # fmt: skip
    kept = {seen: split.folds(events, 5, 10, seen) for seen in ("exclude", "allow", "only")}
    assert kept["exclude"].fold.tolist() == [0, 0, 1, 2, -1, -1, 2, 0, 0, 1, 2]
    assert kept["allow"].fold.tolist() == [0, 0, 1, 2, 2, -1, 2, 0, 0, 1, 2]
    assert kept["only"].fold.tolist() == [0, 0, 1, -1, 2, -1, -1, 0, 0, 1, -1]
    assert kept["only"].test_users.tolist() == [0]
    assert [folds.seen for folds in kept.values()] == ["exclude", "allow", "only"]


def test_a_repeat_is_one_of_what_is_left_in_the_history():
    # Item 1 has too few interactions before the test to stay in user 0's history.
    split = Time(at=80, validation_at=60, min_item_train=2)
    events = interactions(
        (0, 0, 10), (0, 1, 20), (0, 2, 61), (0, 1, 81), (0, 2, 82), (1, 0, 15), (1, 2, 70)
    )
    assert split.folds(events, 5, 10, "only").fold.tolist() == [0, -1, 1, -1, 2, 0, 1]


def untimed(users: int = 40, items: int = 60, rows: int = 800) -> Interactions:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    return Interactions.ordered(user, item, np.zeros(rows), np.ones(rows))


def test_random_holds_out_a_share_of_the_items_of_each_user():
    events = untimed()
    fold, t1, t2 = Random(test=0.25, validation=0.1).cut(events)
    assert (t1, t2) == (1, 1)
    for user in range(40):
        own = events.user == user
        counts = [len(np.unique(events.item[own & (fold == part)])) for part in (0, 1, 2)]
        assert counts[2] == sum(counts) // 4
        assert counts[1] == max(sum(counts) // 10, 1)


def test_random_holds_out_a_number_of_items_of_each_user_who_has_more():
    events = interactions(*[(0, item, 7) for item in range(9)], (1, 0, 7), (1, 1, 7), (2, 5, 7))
    fold, _, _ = Random(test=2, validation=1).cut(events)
    assert np.bincount(fold[events.user == 0]).tolist() == [6, 1, 2]
    assert (fold[events.user > 0] == 0).all()


def test_another_draw_is_another_split_and_other_users_change_nothing():
    events = untimed()
    first, again, other = (Random(draw=draw).cut(events)[0] for draw in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()
    # Of a user's items about as many are held out, whichever they are.
    assert np.bincount(first).tolist() == pytest.approx(np.bincount(other), abs=30)
    without = events.user != 3
    alone = Random().cut(events.take(without))[0]
    assert alone.tolist() == first[without].tolist()


def test_auto_is_in_time_where_there_are_times():
    assert AutoSplit(min_user_train=3).suiting(EVENTS) == Time(min_user_train=3)
    assert folds(AutoSplit(), EVENTS).fold.tolist() == folds(Time(), EVENTS).fold.tolist()
    assert AutoSplit(min_user_test=2).suiting(untimed()) == Random(min_user_test=2)
    found = AutoSplit().folds(untimed(), 40, 60)
    assert found.fold.tolist() == Random().folds(untimed(), 40, 60).fold.tolist()
    with pytest.raises(ValueError, match=r"split: quantile = 0\.7 needs times, and all"):
        AutoSplit(quantile=0.7).suiting(untimed())
    assert AutoSplit(quantile=0.7).suiting(EVENTS) == Time(quantile=0.7)
    with pytest.raises(ValueError, match=r"needs a split with earlier cuts .* got random"):
        AutoSplit().earlier(untimed(), 1)


def test_a_part_is_a_share_or_a_whole_number():
    with pytest.raises(ValidationError, match="a whole number of items"):
        Random(test=1.5)
    with pytest.raises(ValidationError, match="greater than 0"):
        Random(validation=0)


USERS = {"users": 3, "cold_users": 1}


def test_what_the_test_window_has_is_counted_before_the_filter():
    # From 80 on user 0 has 3, 0 again and 9, a new item; user 1 has 1, and user 2 is new.
    found = folds(Time(at=80, validation_at=60), EVENTS).window
    assert found == Window(rows=6, new_users=2, new_items=1, repeats=1, others=0, count=2, **USERS)
    assert sentence(found.record()) == (
        "test window 6 rows: 2 of new users, 1 of new items, 1 repeats, 2 count"
    )


def test_new_users_and_items_that_count_are_told():
    split = Time(at=80, validation_at=60, warm_users=False, warm_items=False)
    found = folds(split, EVENTS).window
    assert found == Window(rows=6, new_users=2, new_items=1, repeats=1, others=0, count=5, **USERS)
    assert sentence(found.record()).endswith("1 repeats, 5 count, new ones too")


def test_what_minimums_leave_out_is_told():
    split = Time(at=80, validation_at=60, min_item_train=2, warm_users=False)
    found = folds(split, EVENTS).window
    assert found == Window(rows=6, new_users=2, new_items=1, repeats=1, others=2, count=1, **USERS)
    assert "1 repeats, 2 left out by the split's minimums or as events, 1 count" in sentence(
        found.record()
    )


@pytest.mark.parametrize(
    ("seen", "repeats", "others", "count"), [("allow", 1, 0, 3), ("only", 1, 2, 1)]
)
def test_repeats_of_a_window_are_those_that_do_not_count(seen, repeats, others, count):
    # User 0 buys 0 twice, which was known, and 3, which is new; user 1 buys 1, which is new.
    events = interactions(
        (0, 0, 10), (0, 1, 20), (0, 2, 60), (0, 3, 80), (0, 0, 85), (0, 0, 88),
        (1, 0, 15), (1, 3, 40), (1, 3, 70), (1, 1, 95),
    )  # fmt: skip
    found = Time(at=80, validation_at=60).folds(events, 5, 10, seen).window
    assert found == Window(4, 0, 0, repeats, others, count, users=2)


def test_whole_users_are_held_out():
    events = untimed(users=50)
    split = Random(users=0.2, test=0.25)
    found = split.folds(events, 50, 60)
    parts = [set(events.user[found.fold == part]) for part in (0, 1, 2)]
    assert [len(part) for part in parts] == [30, 10, 10]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    for part in (1, 2):
        asked = found.asked(part)
        assert set(events.user[asked]) == parts[part]
        for user in parts[part]:
            own = events.user == user
            held, history = (set(events.item[own & of]) for of in (found.fold == part, asked))
            assert not held & history
            assert len(held) == max((len(held) + len(history)) // 4, 1)
    # What the validation asked about is learned from before the test, what the test asks is not.
    assert found.before_test[found.asked(1)].all()
    assert not found.before_test[found.asked(2)].any()
    assert not found.before_validation[found.asked(1)].any()
    other = split.model_copy(update={"draw": 1}).folds(events, 50, 60)
    assert set(events.user[other.fold == 2]) != parts[2]


def test_minimums_of_whole_users():
    events = untimed(users=50)
    found = Random(users=0.2, test=2, min_user_history=12).folds(events, 50, 60)
    for user in found.test_users:
        assert (found.asked(2) & (events.user == user)).sum() >= 12
    # Items of requests alone are no warm ones.
    rare = Random(users=0.2, min_item_train=14).folds(events, 50, 60)
    learned = np.bincount(events.item[rare.before_test], minlength=60)
    assert (learned[events.item[rare.fold == 2]] > 0).all()

"""What holds for every split."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from train.core.schema import Interactions
from train.data.pairs import first_pairs
from train.data.splits import SPLITS

N_USERS, N_ITEMS, SPAN = 5, 40, 40 * 86_400

counts = st.fixed_dictionaries(
    {
        "min_user_train": st.integers(0, 15),
        "min_item_train": st.integers(0, 2),
        "min_user_history": st.integers(0, 15),
        "min_user_test": st.integers(0, 4),
        "warm_users": st.booleans(),
        "warm_items": st.booleans(),
    }
)


@st.composite
def interactions(draw) -> Interactions:
    n = draw(st.integers(80, 200))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    user, item = random.integers(0, N_USERS, n), random.integers(0, N_ITEMS, n)
    # Few different times, so that there are ties.
    timestamp = random.integers(0, 50, n) * (SPAN // 50)
    return Interactions.ordered(user, item, timestamp, np.ones(n))


@pytest.mark.parametrize(("name", "split"), SPLITS.items())
def test_is_named_by_its_key(name, split):
    assert split().name == name
    assert split.model_validate_json(split().model_dump_json()) == split()
    assert split.__doc__


@pytest.mark.parametrize("name", SPLITS)
@given(events=interactions(), settings=counts)
def test_folds_keep_their_promises(name, events, settings):
    split = SPLITS[name](**settings)
    try:
        folds = split.folds(events, N_USERS, N_ITEMS)
    except ValueError as error:
        assert "empty split" in str(error)
        assume(False)
    fold, user, item = folds.fold, events.user, events.item
    assert set(np.unique(fold)) <= {-1, 0, 1, 2}
    assert {0, 1, 2} <= set(fold.tolist())
    before, test = (fold == 0) | (fold == 1), fold == 2

    assert folds.test_users.tolist() == sorted(set(user[test].tolist()))
    assert first_pairs(events, N_ITEMS)[test].all()
    test_counts = np.bincount(user[test], minlength=N_USERS)[folds.test_users]
    assert (test_counts >= split.min_user_test).all()
    history = np.bincount(user[before], minlength=N_USERS)
    assert (history[folds.test_users] >= split.min_user_history).all()
    if split.warm_users:
        assert set(user[test]) <= set(user[before])
    if split.warm_items:
        assert set(item[test]) <= set(item[before])

    for entity, minimum in ((user, split.min_user_train), (item, split.min_item_train)):
        cut = split.cut(events)[0] < 2
        kept = np.bincount(entity[cut], minlength=N_ITEMS)[entity[before]]
        assert (kept >= minimum).all()

    assert events.timestamp[fold == 0].max() < folds.t1 <= folds.t2
    assert events.timestamp[before].max() < folds.t2
    if name == "leave_last":
        order = np.lexsort((np.where(fold == -1, 9, fold), user))
        kept_order = [i for i in range(len(fold)) if fold[i] >= 0]
        assert kept_order == [i for i in order if fold[i] >= 0]
    elif name == "random":
        key = user.astype(np.int64) * N_ITEMS + item
        assert not set(key[test]) & set(key[before])
        assert not set(key[fold == 0]) & set(key[fold == 1])
    elif name == "hold_out_items":
        parts = [set(item[fold == number]) for number in (0, 1, 2)]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    else:
        assert events.timestamp[test].min() >= folds.t2
        assert events.timestamp[fold == 1].min() >= folds.t1


@pytest.mark.parametrize("name", SPLITS)
@given(events=interactions())
def test_without_filters_nothing_before_the_test_is_lost(name, events):
    split = SPLITS[name]()
    try:
        folds = split.folds(events, N_USERS, N_ITEMS)
    except ValueError:
        assume(False)
    cut, t1, t2 = split.cut(events)
    assert (folds.fold[cut < 2] == cut[cut < 2]).all()
    assert (t1, t2) == (folds.t1, folds.t2)


# What is held out whole, a pair or an item, has no interaction before the test: none is a repeat.
@pytest.mark.parametrize(
    ("name", "seen"),
    [(name, "allow") for name in SPLITS]
    + [(name, "only") for name in SPLITS if name not in ("hold_out_items", "random")],
)
@given(events=interactions())
def test_repeats_are_one_entry_a_pair(name, seen, events):
    split = SPLITS[name]()
    try:
        folds = split.folds(events, N_USERS, N_ITEMS, seen)
    except ValueError as error:
        assert "empty split" in str(error)
        assume(False)
    key = events.user.astype(np.int64) * N_ITEMS + events.item
    test = key[folds.fold == 2]
    assert len(np.unique(test)) == len(test)
    known = np.isin(test, key[folds.before_test])
    assert known.all() or seen == "allow"
    # Nothing is left out of histories here, so what is no repeat is the first of its pair.
    assert (known != first_pairs(events, N_ITEMS)[folds.fold == 2]).all()

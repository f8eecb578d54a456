"""Rolling folds: earlier cuts of each split, and mean and spread of the systems over them."""

from typing import Any

import numpy as np
import pytest

from tests.training import small
from train.config import Run
from train.core.schema import Interactions
from train.data.splits.base import DAY, TEST, Split
from train.data.splits.hold_out_items import HoldOutItems
from train.data.splits.leave_last import LeaveLast
from train.data.splits.times import LastDays, Time
from train.evaluation.folds import summarized
from train.metrics.ranking import NAMES
from train.report.folds import fold_tables
from train.steps import earlier_fold


def days(count: int = 100) -> Interactions:
    """Return one interaction of user 0 and one of user 1 on each of so many days."""
    day = np.tile(np.arange(count), 2)
    item = np.arange(2 * count) % 10
    return Interactions.ordered(np.repeat([0, 1], count), item, day * DAY, np.ones(2 * count))


def test_cuts_in_time_move_back_by_the_length_of_the_test():
    events = days()
    split = Time(at=80 * DAY, validation_at=70 * DAY, min_user_history=3)
    # The test is 19 days and a second long.
    length = 19 * DAY + 1
    for steps in (1, 2):
        earlier, there = split.earlier(events, steps)
        assert earlier.min_user_history == 3
        _, t1, t2 = earlier.cut(events.take(there))
        assert (t1, t2) == (70 * DAY - steps * length, 80 * DAY - steps * length)
        assert events.timestamp[there].max() < 80 * DAY - (steps - 1) * length
        assert events.timestamp[~there].min() >= 80 * DAY - (steps - 1) * length


def test_a_quantile_is_a_moment_in_earlier_folds():
    events = days()
    _, _, t2 = Time(quantile=0.9).cut(events)
    earlier, _ = Time(quantile=0.9, validation_quantile=0.5).earlier(events, 1)
    assert isinstance(earlier, Time)
    assert earlier.quantile is None
    assert earlier.validation_quantile == 0.5
    assert earlier.at == t2 - (99 * DAY + 1 - t2)


def test_last_days_move_back_by_days():
    events = days()
    split = LastDays(days=7, validation_days=14, warm_items=False)
    _, t1, t2 = split.cut(events)
    earlier, there = split.earlier(events, 3)
    assert not earlier.warm_items
    assert earlier.cut(events.take(there))[1:] == (t1 - 21 * DAY, t2 - 21 * DAY)
    assert events.timestamp[there].max() < t2 - 14 * DAY <= events.timestamp[~there].min()


def test_leave_last_drops_the_newest_tests_of_each_user():
    events = days(12)
    earlier, there = LeaveLast(test=2).earlier(events, 2)
    assert there.reshape(2, -1).sum(axis=1).tolist() == [8, 8]
    fold, _, _ = earlier.cut(events.take(there))
    assert np.flatnonzero(fold[:8] == TEST).tolist() == [6, 7]


def run_of(split: Split, folds: int) -> Run:
    table = {"data": {"name": "generated"}, "split": split, "evaluation": {"folds": folds}}
    return Run.model_validate(table)


@pytest.mark.parametrize("split", [Time(), LastDays(days=30, validation_days=30), LeaveLast()])
def test_tests_of_folds_do_not_overlap(split: Split):
    data, _ = small()
    run = run_of(split, 3)
    used = np.zeros(0, np.int64)
    whole = data.interactions
    keys = (whole.user.astype(np.int64) * 1000 + whole.item) * 10**10 + whole.timestamp
    folds = split.folds(whole, len(data.users), len(data.items))
    tests = [keys[folds.fold == TEST]]
    for steps in (1, 2):
        of, past, folds = earlier_fold(run, data, steps)
        assert (of.final_fit, of.evaluation.folds) == ("before_test", 1)
        assert len(past.users) == len(data.users)
        part = past.interactions
        key = (part.user.astype(np.int64) * 1000 + part.item) * 10**10 + part.timestamp
        tests.append(key[folds.fold == TEST])
        # What is known of an earlier fold ends before the test of the one after it.
        assert not np.isin(tests[-2], key).any()
    used = np.concatenate(tests)
    assert len(used) == len(np.unique(used)) > 0


def test_what_has_no_earlier_cut_says_so():
    data, _ = small()
    with pytest.raises(ValueError, match=r"evaluation.folds needs .* got hold_out_items"):
        HoldOutItems().earlier(data.interactions, 1)
    run = run_of(LeaveLast(test=20, validation=20), 9)
    with pytest.raises(ValueError, match=r"evaluation.folds = 9, fold 9: empty split"):
        earlier_fold(run, data, 8)


def report(ndcg: float, *names: str) -> dict[str, Any]:
    systems = {name: {metric: {"mean": ndcg} for metric in NAMES} for name in names}
    return {"systems": systems, "users": 9, "verdict": {"served": "stage_1"}, "k": 10}


def test_mean_and_spread_over_folds():
    reports = [report(0.2, "stage_1", "als"), report(0.4, "stage_1"), report(0.3, "stage_1")]
    found = summarized(reports, [30, 20, 10])
    assert found["cuts"] == [30, 20, 10]
    assert found["served"] == ["stage_1"] * 3
    ndcg = found["systems"]["stage_1"]["ndcg"]
    assert ndcg["values"] == [0.2, 0.4, 0.3]
    assert ndcg["mean"] == pytest.approx(0.3)
    assert ndcg["sd"] == pytest.approx(0.1)
    alone = found["systems"]["als"]["ndcg"]
    assert (alone["values"], alone["mean"], alone["sd"]) == ([0.2, None, None], 0.2, 0.0)
    (table,) = fold_tables(reports[0] | {"folds": found})
    assert table[2][1] == ["stage 1", "0.3000\n+- 0.1000", "0.3000\n+- 0.1000",
                           "0.2000", "0.4000", "0.3000"]  # fmt: skip
    assert table[2][2][3:] == ["0.2000", "", ""]
    assert not list(fold_tables(reports[0]))

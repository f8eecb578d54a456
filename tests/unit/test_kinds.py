"""Kinds of events: what they weigh, which ones count in the test, and which ones hide an item."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.training import exact_recommender
from train.core.ragged import Ragged
from train.core.schema import Interactions, Tables
from train.data.encoded import Encoded, encode
from train.data.snapshot import Snapshot, fingerprint, held_out, snapshot, validation_holdout
from train.data.splits.base import Folds, Split
from train.data.splits.hold_out_items import HoldOutItems
from train.data.splits.leave_last import LeaveLast
from train.data.splits.random import Random
from train.data.splits.times import Time
from train.data.splits.window import Window
from train.datasets.files import Files
from train.recommender.requests import Request, in_indices, of_known_users

EVENTS = """user_id,item_id,timestamp,event,amount
1,10,1,view,2
1,11,2,buy,3
1,12,3,ping,1
2,10,4,hide,5
2,11,5,cart,1
2,13,6,buy,4
"""
WEIGHTS = {"view": 0.25, "cart": 0.5, "buy": 1, "hide": -1, "ping": 0}


def load(place: Path, text: str = EVENTS, **options: Any) -> Tables:
    (place / "events.csv").write_text(text)
    table = {
        "interactions": str(place / "events.csv"),
        "events": WEIGHTS,
        "timestamp_unit": "order",
    }
    return Files.model_validate(table | options).load()


def column(tables: Tables, name: str) -> dict[tuple[int, int], Any]:
    rows = tables.interactions.to_pylist()
    return {(row["user_id"], row["item_id"]): row[name] for row in rows}


def test_an_event_has_its_weight_and_its_role(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        tables = load(tmp_path)
    weights = {(1, 10): 0.25, (1, 11): 1, (2, 10): -1, (2, 11): 0.5, (2, 13): 1}
    assert column(tables, "weight") == weights
    roles = {(1, 10): 1, (1, 11): 1, (2, 10): -1, (2, 11): 1, (2, 13): 1}
    assert column(tables, "role") == roles
    # What weighs nothing is left out of the interactions, but its item is known.
    assert 12 in tables.items["item_id"].to_pylist()
    assert "view 1 (weight 0.25), buy 2 (weight 1), ping 1 (weight 0)" in caplog.text


def test_the_weight_of_an_event_is_multiplied_by_that_of_its_row(tmp_path: Path) -> None:
    tables = load(tmp_path, weight="amount", test_events=["buy"])
    weights = {(1, 10): 0.5, (1, 11): 3, (2, 10): -1, (2, 11): 0.5, (2, 13): 4}
    assert column(tables, "weight") == weights
    roles = {(1, 10): 0, (1, 11): 1, (2, 10): -1, (2, 11): 0, (2, 13): 1}
    assert column(tables, "role") == roles


def test_a_minimum_of_weights_leaves_what_hides(tmp_path: Path) -> None:
    tables = load(tmp_path, min_weight=0.4)
    assert set(column(tables, "role").values()) == {1, -1}
    assert set(column(tables, "weight")) == {(1, 11), (2, 10), (2, 11), (2, 13)}


def test_roles_of_1_alone_are_none(tmp_path: Path) -> None:
    weights = dict.fromkeys(WEIGHTS, 1)
    assert encode(load(tmp_path, events=weights)).interactions.role is None


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            EVENTS + "3,10,7,click,1\n3,11,8,click,1\n3,12,9,Buy,1\n",
            {},
            r"column 'event' \(9 rows\): expected events with a weight in data.events \(view, "
            r"cart, buy, hide, ping\); 2 have none: 'click' \(2 rows\), 'Buy' \(1 rows\)",
        ),
        (
            EVENTS,
            {"events": WEIGHTS | {"return": -1, "gift": 1}},
            r"data.events has weights of 'return', 'gift', which never occur; there are 'view', "
            r"'buy', 'ping', 'hide', 'cart'\. Correct",
        ),
        (
            EVENTS + "3,10,7,,1\n",
            {},
            r"expected an event in every row; 1 is not: an empty value \(row 7\)",
        ),
        (EVENTS, {"event": "kind"}, r"no column 'kind'; it has: user_id"),
    ],
    ids=["unknown", "absent", "empty", "column"],
)
def test_what_is_wrong_with_events_is_named(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": {"hide": -1, "ping": 0}}, "expected a weight above 0 among them"),
        ({"test_events": ["buy", "hide"]}, r"expected some of view, cart, buy, .* got hide"),
        ({"events": {}, "test_events": ["buy"]}, "give each its weight in"),
        ({"events": {}, "event": "kind"}, "give each its weight in"),
        ({"events": {"buy": float("nan")}}, "finite number"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Files.model_validate({"interactions": "events.csv", "events": WEIGHTS} | options)


def interactions(*rows: tuple[int, int, int, int]) -> Interactions:
    """Rows of user, item, time and role."""
    user, item, time, role = np.array(rows).T
    return Interactions.ordered(user, item, time, np.ones(len(user)), role)


# The test begins at 80, the validation at 60. User 0 buys 1, returns 1 within the training, and
# buys 5 before the validation but returns it in the test.
ROWS = interactions(
    (0, 0, 10, 1), (0, 6, 12, 1), (0, 1, 20, 1), (0, 1, 30, -1), (0, 5, 35, 1), (0, 2, 60, 0),
    (0, 3, 65, 1),
    (0, 1, 81, 1), (0, 4, 85, 0), (0, 4, 86, 1), (0, 5, 88, -1), (0, 2, 90, 1),
    (1, 2, 10, 1), (1, 3, 40, 0), (1, 4, 55, 1), (1, 0, 62, 1), (1, 0, 70, -1),
    (1, 6, 83, 1), (1, 1, 83, 1), (1, 5, 84, 1), (1, 5, 99, -1),
)  # fmt: skip
SPLIT = Time(at=80, validation_at=60)


def folds(split: Split = SPLIT, seen: Any = "exclude") -> Folds:
    return split.folds(ROWS, 2, 7, seen)


def encoded(events: Interactions = ROWS) -> Encoded:
    users, items = (int(of.max()) + 1 for of in (events.user, events.item))
    rows = {"user_id": [0], "item_id": [0], "timestamp": [0], "weight": pa.array([1.0])}
    sides = pa.table({"item_id": range(items), "title": [None] * items})
    people = pa.table({"user_id": range(users)})
    data = encode(Tables(pa.table(rows), sides, people, {}, {}))
    return replace(data, interactions=events)


def known(of: str = "before_test", split: Split = SPLIT) -> Snapshot:
    found = folds(split)
    as_of = found.t2 if of == "before_test" else found.t1
    return snapshot(encoded(), getattr(found, of), as_of, 7)


def test_only_what_the_test_counts_is_ground_truth_and_nothing_hidden() -> None:
    # Of user 0, 1 was hidden before, 4 counts by its purchase and not by its view, 5 is returned,
    # and 2 was viewed before. Of user 1, nobody has 1 who did not return it, and 5 is returned.
    assert folds().fold.tolist() == [
        *(0, 0, 0, -2, 0, 1, 1, -1, -1, 2, -4, -1),
        *(0, 0, 0, 1, -3, 2, -1, -1, -4),
    ]
    held = held_out(encoded(), folds(), known())
    assert [held.relevant.take(np.array([n])).values.tolist() for n in (0, 1)] == [[4], [6]]


def test_repeats_count_where_they_are_allowed_and_not_hidden() -> None:
    found = folds(seen="allow").fold
    # 2, which was viewed before and is bought now, counts too.
    assert np.flatnonzero(found == 2).tolist() == [9, 11, 17]
    assert np.flatnonzero(folds(seen="only").fold == 2).tolist() == [11]


def test_a_snapshot_knows_of_what_was_hidden_until_then() -> None:
    before, later = known("before_validation"), known()
    assert before.hidden.take(np.array([0])).values.tolist() == [1]
    assert before.hidden.lengths.tolist() == [1, 0]
    assert later.hidden.lengths.tolist() == [1, 1]
    # What is hidden is in no history and in no count; what will be is still there.
    histories = [before.histories.take(np.array([n])).values.tolist() for n in (0, 1)]
    assert histories == [[0, 6, 5], [2, 3, 4]]
    histories = [later.histories.take(np.array([n])).values.tolist() for n in (0, 1)]
    assert histories == [[0, 6, 5, 2, 3], [2, 3, 4]]
    assert later.statistics.item_count.tolist() == [1, 0, 2, 2, 1, 1, 1]
    assert later.interactions.positive.all()


def test_the_validation_window_is_like_the_test() -> None:
    window = validation_holdout(encoded(), folds(), known("before_validation"))
    # User 0 views 2 and buys 3; user 1 buys 0 and returns it.
    assert window.users.tolist() == [0]
    assert window.relevant.values.tolist() == [3]
    assert window.excluded.values.tolist() == [0, 6, 5, 1]
    assert replace(window, seen="allow").excluded.values.tolist() == [1]


def test_the_future_hides_nothing() -> None:
    """Without the events after a moment, what is known at it is the same."""
    past = ROWS.take(ROWS.timestamp < 80)
    now = snapshot(encoded(past), np.ones(len(past), bool), 80, 7)
    assert now.histories.values.tolist() == known().histories.values.tolist()
    assert now.hidden.values.tolist() == known().hidden.values.tolist()


def test_leave_last_counts_back_by_what_the_test_counts() -> None:
    rows = interactions(
        (0, 0, 1, 1), (0, 1, 2, 1), (0, 2, 3, 0), (0, 2, 4, 1), (0, 3, 5, 0), (0, 4, 6, -1),
        (0, 5, 7, 1), (0, 0, 8, 0), (0, 3, 9, -1),
        # One purchase alone, or none: trained on only.
        (1, 0, 1, 0), (1, 1, 2, 1), (2, 0, 1, 0), (2, 1, 2, 0),
    )  # fmt: skip
    fold, _, _ = LeaveLast().cut(rows)
    # The view of 3 and the hiding of 4 come before the last purchase, what comes after it is test.
    assert fold.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0]
    split = LeaveLast(warm_items=False)
    found = split.folds(rows, 3, 6)
    assert found.fold.tolist() == [0, 0, 0, 1, 1, -3, 2, -1, -4, 0, 0, 0, 0]


def test_random_holds_out_what_the_test_may_count() -> None:
    rng = np.random.default_rng(0)
    user, item = np.arange(400) // 20, np.tile(np.arange(20), 20)
    role = rng.choice([-1, 0, 1], 400, p=[0.2, 0.3, 0.5])
    rows = Interactions.ordered(user, item, np.zeros(400), np.ones(400), role)
    fold, _, _ = Random(test=0.25, validation=1).cut(rows)
    assert (role[fold > 0] == 1).all()
    counted = np.bincount(user[role == 1], minlength=20)
    assert np.bincount(user[fold == 2], minlength=20).tolist() == (counted // 4).tolist()
    found = Random(test=0.25, validation=1).folds(rows, 20, 20)
    # All that is hidden is known: there are no times.
    assert ((found.fold == -2) == (role == -1)).all()


def test_items_that_are_held_out_are_hidden_with_their_events() -> None:
    found = HoldOutItems(test=0.3, validation=0.3).folds(ROWS, 2, 7)
    held = np.unique(ROWS.item[found.fold == 2])
    assert not np.isin(ROWS.item[found.before_test], held).any()


def test_data_with_other_roles_are_other_data() -> None:
    other = replace(ROWS, role=np.abs(ROWS.role))  # type: ignore[arg-type]
    assert fingerprint(encoded()) != fingerprint(encoded(other))


@pytest.mark.parametrize("seen", ["exclude", "allow", "only"])
def test_requests_exclude_what_is_hidden_from_their_user(seen: Any) -> None:
    vectors = np.eye(7, 4, dtype=np.float32)
    ours = exact_recommender(encoded(), known(), vectors[:2], vectors, seen=seen)
    assert ours.hidden is not None
    users = np.array([0, 1])
    for asked_seen in (None, "allow"):
        rows = of_known_users(ours, users, asked_seen).exclude
        assert [1 in rows.take(np.array([0])).values, 0 in rows.take(np.array([1])).values] == [
            True,
            True,
        ]
    asked = [Request(user_id=0, exclude=[3]), Request(user_id=7), Request(history=[1])]
    queries, _, _ = in_indices(ours, asked)
    given = [set(queries.exclude.take(np.array([n])).values.tolist()) for n in range(3)]
    history = {0, 2, 3, 5, 6} if seen == "exclude" else set()
    assert given == [{1, 3, *history}, set(), {1} if seen == "exclude" else set()]


def test_a_recommender_without_hidden_items_has_none() -> None:
    plain = replace(ROWS, role=None)
    past = snapshot(encoded(plain), np.ones(len(plain), bool), 100, 7)
    assert past.hidden.lengths.tolist() == Ragged.empty(2).lengths.tolist()
    vectors = np.eye(7, 4, dtype=np.float32)
    assert exact_recommender(encoded(plain), past, vectors[:2], vectors).hidden is None


def test_the_window_has_no_negative_rows_and_tells_what_is_no_purchase() -> None:
    # Of user 0: 1 again, a view of 4, its purchase, and 2 again; of user 1: 6, 1, which nobody
    # else kept, and 5, which is returned.
    assert folds().window == Window(rows=7, repeats=2, others=3, count=2, users=2)

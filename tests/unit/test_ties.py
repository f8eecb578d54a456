"""Interactions of one time: their order comes from a hash of the ids, never from the rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.core.hashing import id_hashes, pair_hashes
from train.core.ragged import Array, Ragged
from train.core.schema import Tables
from train.data.encoded import Encoded, encode
from train.data.snapshot import fingerprint, snapshot
from train.data.splits.leave_last import LeaveLast
from train.datasets.files import Files


def table(seed: int = 0, users: int = 20, items: int = 30, rows: int = 400, times: int = 3):
    """Return interactions at few times, so that nearly all of them tie, some rows twice."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user_id": rng.integers(0, users, rows),
            "item_id": [f"item {i}" for i in rng.integers(0, items, rows)],
            "timestamp": rng.integers(0, times, rows),
            "weight": rng.integers(1, 3, rows).astype(np.float32),
        }
    )


def encoded(events: pa.Table, **rest) -> Encoded:
    sides = {
        side: pa.table({f"{side}_id": events[f"{side}_id"].unique()}) for side in ("user", "item")
    }
    titled = sides["item"].append_column("title", sides["item"]["item_id"])
    return encode(Tables(events, titled, sides["user"], {}, {}, **rest))


def same(one: Encoded, other: Encoded) -> bool:
    names = ("user", "item", "timestamp", "weight")
    return all(
        np.array_equal(getattr(one.interactions, name), getattr(other.interactions, name))
        for name in names
    )


@given(st.integers(0, 2**32))
def test_the_order_of_the_rows_changes_nothing(seed):
    events = table()
    shuffled = events.take(np.random.default_rng(seed).permutation(len(events)))
    assert same(encoded(events), encoded(shuffled))
    assert fingerprint(encoded(events)) == fingerprint(encoded(shuffled))


@pytest.mark.parametrize("key", ["item_id", "user_id", "weight"])
def test_sorting_the_rows_changes_nothing(key):
    events = table()
    for order in ("ascending", "descending"):
        assert same(encoded(events), encoded(events.sort_by([(key, order)])))


def test_rows_keep_their_order_where_they_are_asked_to():
    events = table(times=1)
    found = encoded(events, ties="rows")
    order = np.argsort(events["user_id"].to_numpy(), kind="stable")
    expected = found.items.index(events["item_id"].take(order))
    assert found.interactions.item.tolist() == expected.tolist()
    assert not same(found, encoded(events))


def last_items(data: Encoded) -> Array:
    """Return the item that leave-last-one tests each user on."""
    split = LeaveLast(warm_items=False)
    folds = split.folds(data.interactions, len(data.users), len(data.items))
    items: Array = data.interactions.item[folds.fold == 2]
    return items


def test_the_last_items_of_rows_sorted_by_item_are_like_any_others():
    # Of ten items at one time, the last one in the order of the rows is always among the largest.
    user, item = np.divmod(np.arange(2000), 10)
    events = pa.table(
        {
            "user_id": user,
            "item_id": (user * 7 + item) % 40,
            "timestamp": np.zeros(2000, np.int64),
            "weight": np.ones(2000, np.float32),
        }
    ).sort_by("item_id")
    hashed, rows = last_items(encoded(events)), last_items(encoded(events, ties="rows"))
    assert len(hashed) == len(rows) == 200
    assert np.bincount(rows, minlength=40)[:9].sum() == 0
    assert np.bincount(hashed, minlength=40)[:9].sum() > 20


def test_a_user_who_leaves_changes_the_order_of_no_other():
    events = table(times=1, users=5)
    without = events.filter(pa.array(events["user_id"].to_numpy() != 0))
    whole, part = encoded(events), encoded(without)

    def named(data: Encoded) -> dict[int, list[str]]:
        past = data.interactions
        rows = Ragged.from_pairs(past.user, past.item, len(data.users))
        return {
            user: data.items.external(rows.take(np.array([n])).values)
            for n, user in enumerate(data.users.ids.to_pylist())
        }

    assert named(part) == {user: of for user, of in named(whole).items() if user != 0}


def test_histories_of_a_snapshot_are_in_the_same_order():
    events = table()
    shuffled = events.take(np.random.default_rng(1).permutation(len(events)))
    one, other = (
        snapshot(data, np.ones(len(data.interactions), bool), 3, 7).histories
        for data in (encoded(events), encoded(shuffled))
    )
    assert one.values.tolist() == other.values.tolist()


def test_users_whose_last_items_tie_are_counted():
    rows = {
        "user_id": [1, 1, 1, 2, 2, 3, 3, 4],
        # User 1 has two items at 9, user 2 one after the other, user 3 one item twice, user 4 one.
        "item_id": [5, 6, 7, 5, 6, 8, 8, 5],
        "timestamp": [1, 9, 9, 3, 4, 2, 2, 7],
        "weight": pa.array([1.0] * 8, pa.float32()),
    }
    assert encoded(pa.table(rows)).tied_users == 1
    fine = pa.table(rows).append_column("fraction", pa.array([0, 1, 2, 0, 0, 0, 0, 0]))
    assert encoded(fine).tied_users == 0
    nothing = pa.table(rows).slice(0, 0)
    assert encoded(nothing).tied_users == 0


def test_finer_times_than_seconds_are_no_ties(tmp_path):
    times = np.array([5900, 5100, 5500, 5100])
    events = {"user_id": [1, 1, 1, 1], "item_id": [3, 1, 2, 9], "timestamp": times}
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    files = Files(interactions=str(tmp_path / "events.parquet"), timestamp_unit="ms")
    data = encode(files.load())
    ids = data.items.external(data.interactions.item)
    assert ids[2:] == [2, 3]
    assert set(ids[:2]) == {1, 9}
    assert data.interactions.timestamp.tolist() == [5, 5, 5, 5]
    assert data.tied_users == 0


def test_hashes_are_spread_and_of_ids_alone():
    texts = pa.array([f"{n}" for n in range(5000)] + ["", "é", "ab", "ba"])
    for ids in (texts, pa.array(np.arange(-2500, 2500))):
        found = id_hashes(ids)
        assert len(np.unique(found)) == len(ids)
        assert id_hashes(ids.slice(100, 7)).tolist() == found[100:107].tolist()
        # Each of the 64 bits is set in about half of them.
        bits = (found[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        np.testing.assert_allclose(bits.mean(axis=0), 0.5, atol=0.05)
    # As they are on every machine.
    assert id_hashes(pa.array(["u7", "i42"])).tolist() == KNOWN
    pairs = pair_hashes(np.arange(100).repeat(100), np.tile(np.arange(100), 100))
    assert len(np.unique(pairs)) == 10_000
    assert (pairs != pair_hashes(np.arange(100).repeat(100), np.tile(np.arange(100), 100), 1)).all()


KNOWN = [2653785001458697902, 9957602688269619186]

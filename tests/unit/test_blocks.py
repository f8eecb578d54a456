"""Blocks of rows: whatever their size, what is read, ordered, cut and counted is the same."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.core import blocks
from train.core.blocks import counted, row_blocks, user_blocks
from train.core.hashing import digest
from train.core.schema import Interactions
from train.data import ties
from train.data.encoded import Encoded, encode
from train.data.pairs import first_pairs, known_pairs
from train.data.profile import profile
from train.data.snapshot import fingerprint, snapshot, validation_holdout
from train.data.splits.leave_last import LeaveLast
from train.data.splits.times import Time
from train.datasets import coding
from train.datasets.coding import below, read_blocks
from train.datasets.files import Files


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 20))
def test_blocks_hold_every_row_once_and_part_no_user(users, size):
    user = np.sort(np.array(users, dtype=np.int32))
    parts = list(user_blocks(user, size))
    assert np.array_equal(np.concatenate([user[:0], *(user[of] for of in parts)]), user)
    ends = [set(user[of].tolist()) for of in parts]
    assert all(not one & other for one, other in pairwise(ends))
    assert all(of.stop - of.start >= size for of in parts[:-1])
    assert sum(of.stop - of.start for of in row_blocks(len(user), size)) == len(user)


def made(rows: int = 500, repeats: bool = True) -> Interactions:
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 40, rows), rng.integers(0, 25 if repeats else 10**6, rows)
    weight = rng.integers(1, 3, rows).astype(np.float32)
    return Interactions.ordered(user, item, rng.integers(0, 60, rows), weight)


def test_pairs_are_found_in_blocks(monkeypatch):
    events, known = made(), np.random.default_rng(0).random(500) < 0.5
    keys = events.keys(25)
    first = np.zeros(500, dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    among = np.flatnonzero(known)
    first_known = np.zeros(500, dtype=bool)
    first_known[among[np.unique(keys[among], return_index=True)[1]]] = True
    for size in (1, 7, 10**6):
        monkeypatch.setattr(blocks, "BLOCK", size)
        assert np.array_equal(first_pairs(events, 25), first)
        assert np.array_equal(first_pairs(events, 25, known), first_known)
        assert np.array_equal(known_pairs(events, known, 25), np.isin(keys, keys[known]))
        assert np.array_equal(counted(events.user, 40), np.bincount(events.user, minlength=40))


def facts(data: Encoded) -> list[object]:
    """Return what is made of a data set: folds, counts, histories, neighbours, a fingerprint."""
    events, out = data.interactions, [fingerprint(data), profile(data), data.tied_users]
    for split in (Time(quantile=0.7, min_user_train=0), LeaveLast(min_user_train=0)):
        folds = split.folds(events, len(data.users), len(data.items))
        known = snapshot(data, folds.before_validation, folds.t1, 7)
        ahead = validation_holdout(data, folds, known)
        arrays = [folds.fold, known.histories.values, ahead.users, ahead.relevant.values]
        arrays += known.statistics.arrays().values()
        out += [of.tolist() for of in arrays] + [folds.window.record()]
    return out


def test_data_are_the_same_in_blocks_of_any_size(monkeypatch, tmp_path):
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "user_id": [f"user {i}" for i in rng.integers(0, 30, 600)],
            "item_id": rng.integers(0, 20, 600),
            "timestamp": 1_600_000_000 + rng.integers(0, 30, 600),
        }
    )
    pq.write_table(table, tmp_path / "events.parquet", row_group_size=37)
    read = Files(interactions=str(tmp_path / "events.parquet"))
    expected = facts(encode(read.load()))
    for size in (1, 50):
        for module in (blocks, ties, coding):
            monkeypatch.setattr(module, "BLOCK", size)
        assert facts(encode(read.load())) == expected


def test_what_is_whole_is_not_copied():
    events = made()
    assert events.take(np.ones(len(events), dtype=bool)) is events
    assert np.shares_memory(events.part(slice(2, 9)).item, events.item)
    plain = Interactions.of(events.user, events.item, events.timestamp)
    some = plain.take(np.arange(0, 500, 3))
    assert (some.weight == 1).all() and some.weight.strides == (0,) and len(some.weight) == 167


def test_a_digest_is_that_of_all_bytes(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 13)
    array, sha = np.arange(100, dtype=np.int64)[::-1], hashlib.sha256()
    digest(sha, array)
    assert sha.hexdigest() == hashlib.sha256(array.tobytes()).hexdigest()


IDS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "bb", "c c", "", "ä"])), max_size=30)


@given(st.lists(IDS, min_size=1, max_size=4), st.booleans())
def test_ids_are_coded_as_they_are_written(files, as_categories):
    kind = pa.dictionary(pa.int32(), pa.string()) if as_categories else pa.string()
    parts = []
    for ids in files:
        batches = [
            pa.record_batch({"id": pa.array(ids[at : at + 4], pa.string()).cast(kind)})
            for at in range(0, len(ids), 4)
        ]
        parts.append(read_blocks(pa.schema({"id": kind}), batches, ["id"]))
    found = below(parts)["id"]
    assert found.to_pylist() == [value for ids in files for value in ids]
    values = found.unify_dictionaries().chunk(0).dictionary.to_pylist() if found.num_chunks else []
    assert len(values) == len(set(values))


def test_files_of_several_types_of_ids(tmp_path: Path):
    folder = tmp_path / "events"
    folder.mkdir()
    for name, kind in (("a", pa.int32()), ("b", pa.int64()), ("c", pa.uint8())):
        ids = pa.array([1, 2, 2], kind)
        table = pa.table({"user_id": ids, "item_id": ids, "timestamp": [1, 2, 3]})
        pq.write_table(table, folder / f"{name}.parquet")
    read = Files(interactions=str(folder), timestamp_unit="order")
    assert read.load().interactions["user_id"].to_pylist() == [1, 2, 2] * 3
    texts = pa.table({"user_id": ["1"], "item_id": ["x"], "timestamp": [1]})
    pq.write_table(texts, folder / "d.parquet")
    with pytest.raises(ValueError, match="its files differ in their columns"):
        read.load()
    lists = pa.table({"user_id": [[1]], "item_id": [1], "timestamp": [1]})
    pq.write_table(lists, folder / "d.parquet")
    with pytest.raises(ValueError, match="its files differ in their columns"):
        read.load()


def test_ids_of_rows_that_are_left_out_are_none(tmp_path: Path):
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp,weight\n1,a,1,5\n2,b,2,1\n1,c,3,5\n"
    )
    (tmp_path / "users.csv").write_text("user_id\n1\n")
    events, users = (str(tmp_path / f"{name}.csv") for name in ("events", "users"))
    files = Files(interactions=events, users=users, min_weight=2, weight="weight")
    data = encode(files.model_copy(update={"timestamp_unit": "order"}).load())
    assert data.users.ids.to_pylist() == [1]
    assert data.items.ids.to_pylist() == ["a", "b", "c"]  # no table of items: all that occur

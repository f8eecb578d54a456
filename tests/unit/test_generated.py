"""The generated data set: what was asked for is there, and what was planted can be found."""

import numpy as np
import pyarrow.compute as pc
import pytest

from train.core.ragged import Array
from train.data.encoded import encode
from train.data.splits.base import DAY
from train.data.splits.times import Time
from train.datasets.generated import Generated

SMALL = Generated(users=400, items=200, interactions=9_000, tastes=8, seed=3)


def ndcg(scores: Array, seen: Array, taken: Array, k: int = 10) -> float:
    """NDCG@k over users with a test, without what they had."""
    top = np.argsort(np.where(seen, -np.inf, scores), axis=1)[:, ::-1][:, :k]
    gain = 1 / np.log2(np.arange(k) + 2)
    users = taken.any(axis=1)
    ideal = np.cumsum(gain)[np.minimum(taken.sum(axis=1), k)[users] - 1]
    hits = np.take_along_axis(taken, top, axis=1)[users]
    return float(((hits * gain).sum(axis=1) / ideal).mean())


def matrices(dataset: Generated) -> tuple[Array, Array]:
    """Return what users had before the test and what they took in it, bool `[U, I]`."""
    data = encode(dataset.load())
    shape = (len(data.users), len(data.items))
    folds = Time(quantile=0.8).folds(data.interactions, *shape)
    seen, taken = np.zeros((2, *shape), dtype=bool)
    before, after = folds.fold < 2, folds.fold == 2
    seen[data.interactions.user[before], data.interactions.item[before]] = True
    taken[data.interactions.user[after], data.interactions.item[after]] = True
    return seen, taken


def test_the_same_seed_gives_the_same_tables():
    first, again = SMALL.load(), SMALL.load()
    other = SMALL.model_copy(update={"seed": 4}).load()
    for table in ("interactions", "items", "users"):
        assert getattr(first, table).equals(getattr(again, table))
        assert not getattr(first, table).equals(getattr(other, table))


def test_numbers_are_as_asked_and_pairs_differ():
    tables = SMALL.load()
    assert (len(tables.interactions), len(tables.items), len(tables.users)) == (9_000, 200, 400)
    pairs = tables.interactions.select(["user_id", "item_id"])
    assert len(pairs.group_by(["user_id", "item_id"]).aggregate([])) == 9_000
    times = tables.interactions["timestamp"].to_numpy()
    assert (np.diff(times) >= 0).all()
    assert times[-1] - times[0] <= SMALL.days * DAY
    for side, key in (("items", "item_id"), ("users", "user_id")):
        ids = getattr(tables, side)[key]
        assert sorted(ids.to_pylist()) == list(range(1, len(ids) + 1))
        assert pc.all(pc.is_in(tables.interactions[key], ids.combine_chunks())).as_py()


def test_text_ids_and_embeddings():
    tables = SMALL.model_copy(update={"text_ids": True, "embedding": 5}).load()
    assert tables.users["user_id"][0].as_py().startswith("u")
    assert tables.items["item_id"][0].as_py().startswith("i")
    assert tables.items["image"].type.list_size == 5


def test_histories_tell_far_more_than_popularity():
    seen, taken = matrices(SMALL)
    counts = seen.astype(float)
    popular = np.broadcast_to(counts.sum(axis=0), counts.shape)
    # Items that the same users had (cosine): a plain model of histories.
    norms = np.sqrt(np.maximum(counts.sum(axis=0), 1))
    alike = (counts.T @ counts) / norms / norms[:, None]
    np.fill_diagonal(alike, 0)
    assert ndcg(counts @ alike, seen, taken) > 1.5 * ndcg(popular, seen, taken)


def test_attributes_tell_a_part_of_the_taste():
    def lift(told: float) -> float:
        tables = SMALL.model_copy(update={"told": told}).load()
        names = dict(
            zip(*(tables.items[c].to_pylist() for c in ("item_id", "category")), strict=True)
        )
        had = [names[i] for i in tables.interactions["item_id"].to_pylist()]
        users = tables.interactions["user_id"].to_numpy()
        codes = np.unique(had, return_inverse=True)[1]
        counts = np.zeros((users.max() + 1, codes.max() + 1))
        np.add.at(counts, (users, codes), 1)
        # How likely two interactions of one user share a category, against any two.
        pairs = (counts**2 - counts).sum() / (counts.sum(axis=1) * (counts.sum(axis=1) - 1)).sum()
        return float(pairs / ((counts.sum(axis=0) / counts.sum()) ** 2).sum())

    assert lift(0.0) == pytest.approx(1.0, abs=0.15)
    assert 1.3 < lift(0.6) < lift(1.0)


def correlation(counts: list[Array]) -> float:
    return float(np.corrcoef(counts[0], counts[1])[0, 1])


def test_popularity_is_skewed_and_drifts():
    def shares(zipf: float) -> Array:
        items = SMALL.model_copy(update={"zipf": zipf}).load().interactions["item_id"].to_numpy()
        half = len(items) // 2
        return np.stack([np.bincount(part, minlength=201) for part in (items[:half], items[half:])])

    flat, steep = shares(0.0), shares(1.2)
    top = [np.sort(s.sum(axis=0))[-20:].sum() / s.sum() for s in (flat, steep)]
    assert top[1] > 1.5 * top[0]
    fading = SMALL.model_copy(update={"fading_days": 20.0}).load().interactions
    items = fading["item_id"].to_numpy()
    early, late = np.array_split(items, 2)
    counts = [np.bincount(part, minlength=201)[1:] for part in (early, late)]
    assert correlation(counts) < correlation(list(shares(SMALL.zipf)[:, 1:]))


@pytest.mark.parametrize("side", ["user", "item"])
def test_cold_ones_appear_only_at_the_end(side):
    def late_only(share: float) -> float:
        dataset = SMALL.model_copy(update={f"cold_{side}s": share})
        table = dataset.load().interactions
        first = table.group_by(f"{side}_id").aggregate([("timestamp", "min")])["timestamp_min"]
        end = table["timestamp"][-1].as_py() - 0.11 * dataset.days * DAY
        return float(pc.mean(pc.greater(first, end).cast("float64")).as_py())

    assert late_only(0.0) < 0.05
    assert 0.2 < late_only(0.4) < 0.5


def test_more_pairs_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"expected 101 different pairs of 10 users and 10 items;"):
        Generated(users=10, items=10, interactions=101, tastes=2).load()

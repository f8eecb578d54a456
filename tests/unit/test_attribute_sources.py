"""Sources that need attributes, by hand: categories, segments of users, new items by content."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training import before, features, histories
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.snapshot import Snapshot, TowerInputs
from train.data.statistics import DAY, Statistics
from train.index.candidates import Queries
from train.sources.entries import SOURCES
from train.sources.fitting import suitable
from train.sources.new_items import content_vectors

# Four users and five items; item 4 is new, and nobody has it.
USER, ITEM = np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 0, 2, 2, 3, 2])
ITEMS = features(np.empty((5, 0)), [[0], [0, 1], [1], [], [0]], ["genre=a", "genre=b"])
USERS = features(np.empty((4, 0)), [[0], [0], [1], []], ["city=x", "city=y"])


def known(items: Features = ITEMS, users: Features = USERS, day: int = 1) -> Snapshot:
    time = np.arange(len(USER)) * day * DAY
    events = Interactions.ordered(USER, ITEM, time, np.ones(len(USER)))
    as_of = int(time[-1]) + 1
    n_users, n_items = len(users.dense), len(items.dense)
    statistics = Statistics.from_interactions(events, n_users, n_items, as_of)
    warm = statistics.user_count > 0, statistics.item_count > 0
    return replace(
        before(),
        interactions=events,
        as_of=as_of,
        histories=Ragged.from_pairs(events.user, events.item, n_users),
        statistics=statistics,
        inputs=TowerInputs(users, items, *warm),
        catalogue=np.ones(n_items, bool),
    )


def scores(name: str, snapshot: Snapshot, user: int, history: list[int], **table: Any) -> Array:
    source = SOURCES[name].model_validate({"name": name, **table}).source(snapshot, 0)
    asked = Queries(np.array([user], np.int32), histories([history]), histories([[]]))
    return np.asarray(source.score(asked, np.arange(5, dtype=np.int32)[None])[0])


def candidates(name: str, snapshot: Snapshot, history: list[int], exclude: list[int]) -> list[int]:
    source = SOURCES[name].model_validate({"name": name}).source(snapshot, 0)
    asked = Queries(np.array([-1], np.int32), histories([history]), histories([exclude]))
    return [item for item in source.candidates(asked, 5).items[0].tolist() if item >= 0]


def test_an_item_is_as_popular_in_a_category_as_its_share_of_the_category() -> None:
    # Items 0, 1, 2, 3 have 2, 1, 3, 1 interactions: category a has 3, category b 4.
    a, b = np.array([2, 1, 0, 0, 0]) / 3, np.array([0, 1, 3, 0, 0]) / 4
    np.testing.assert_allclose(scores("category_popularity", known(), -1, [0]), a, rtol=1e-6)
    both = scores("category_popularity", known(), -1, [0, 1])  # a twice, b once
    np.testing.assert_allclose(both, (2 * a + b) / 3, rtol=1e-6)
    assert not scores("category_popularity", known(), 2, []).any()
    assert not scores("category_popularity", known(), 2, [3]).any()
    assert candidates("category_popularity", known(), [0, 1], [0, 1]) == [2]


def test_a_segment_has_the_shares_of_its_users_and_some_of_all() -> None:
    overall, x = np.array([2, 1, 3, 1, 0]) / 7, np.array([2, 1, 1, 0, 0]) / 4
    none = scores("segment_popularity", known(), 0, [], smoothing=0)
    np.testing.assert_allclose(none, x, rtol=1e-6)
    some = scores("segment_popularity", known(), 0, [3], smoothing=6)
    np.testing.assert_allclose(some, (4 * x + 6 * overall) / 10, rtol=1e-6)
    source = SOURCES["segment_popularity"].model_validate({"smoothing": 6}).source(known(), 0)
    assert source.reads_attributes
    user, none_yet = np.array([-1, 0, 3], np.int32), histories([[], [], []])
    own, given = USERS.take(np.array([1, 2, -1])), np.ones(3, dtype=bool)
    asked = Queries(user, none_yet, none_yet, own, given)
    found = source.score(asked, np.tile(np.arange(5, dtype=np.int32), (3, 1)))
    expected = [scores("segment_popularity", known(), of, [], smoothing=6) for of in (1, 2, 3)]
    np.testing.assert_array_equal(found, expected)
    alone = source.score(asked.take(np.array([1])), np.arange(5)[None])
    np.testing.assert_array_equal(alone[0], expected[1])
    for nobody in (3, -1):  # without attributes, and unknown
        found = scores("segment_popularity", known(), nobody, [0], smoothing=6)
        np.testing.assert_allclose(found, overall, rtol=1e-6)
    assert candidates("segment_popularity", known(), [], [2]) == [0, 1, 3]


def test_a_user_of_two_segments_has_their_mean() -> None:
    users = features(np.empty((4, 0)), [[0, 1], [0], [1], []], ["city=x", "age=y"])
    first, second, both = (
        scores("segment_popularity", known(users=users), user, []) for user in (1, 2, 0)
    )
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-6)


def test_only_new_items_are_proposed_the_most_alike_first() -> None:
    items = features(np.empty((5, 0)), [[0], [1], [0], [0, 1], [0]], ["genre=a", "genre=b"])
    # An interaction every 20 days: item 2 is first seen 60 days ago, item 3 20 days, item 4 never.
    assert candidates("new_items", known(items, day=20), [0], []) == [4, 3]
    assert candidates("new_items", known(items, day=20), [1], [4]) == [3]
    assert candidates("new_items", known(items, day=20), [], []) == []
    recent = known(items, day=20)
    old = replace(recent, as_of=recent.as_of + 90 * DAY, catalogue=np.arange(5) < 4)
    assert candidates("new_items", old, [0], []) == []


def test_the_shares_of_numbers_and_categories_make_a_cosine() -> None:
    numbers = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    items = features(numbers, [[0], [0], [1], []], ["genre=a", "genre=b"])
    vectors = content_vectors(items, 0.25)
    expected = 0.75 * np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    expected += 0.25 * np.array([[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]])
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
    alone = content_vectors(replace(items, vocabulary=(), categories=histories([[]] * 4)), 0.25)
    np.testing.assert_allclose((alone**2).sum(axis=1), 1, rtol=1e-6)


def test_many_categories_are_projected() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.choice(400, 3, replace=False).tolist() for _ in range(300)]
    items = features(np.empty((300, 0)), rows, [f"tag={n}" for n in range(400)])
    vectors = content_vectors(items, 0.5)
    assert vectors.shape == (300, 128)
    assert ((vectors**2).sum(axis=1) < 1 + 1e-4).all()


@pytest.mark.parametrize(
    ("name", "lack"),
    [
        ("category_popularity", "items have no categories"),
        ("segment_popularity", "users have no categories"),
        ("new_items", "items have no attributes"),
    ],
)
def test_what_the_data_lack_is_said(name: str, lack: str, caplog: pytest.LogCaptureFixture) -> None:
    source = SOURCES[name].model_validate({"name": name})
    assert suitable([source], known(), named=True) == (source,)
    bare = known(Features.empty(5), Features.empty(4))
    with caplog.at_level("INFO"):
        assert suitable([source], bare, named=False) == ()
    assert f"source {name} is left out: {lack}" in caplog.text
    with pytest.raises(ValueError, match=f"source {name} cannot be fitted to these data: {lack}"):
        suitable([source], bare, named=True)

"""Trees over the attributes of items: what they are given, what they learn, what they refuse."""

import numpy as np
import pytest

from tests.training import before, features, small
from train.baselines.content_trees import MAX_FLAGS, CatBoostContent, columns, unseen
from train.core.features import Features
from train.core.schema import Interactions
from train.data.snapshot import Snapshot, snapshot


def rated() -> Snapshot:
    """Return what was known of the small data set, with ratings: 5 where the item is even."""
    data, folds = small()
    events = data.interactions
    weight = np.where(events.item % 2, 2, 5).astype(np.float32)
    ratings = Interactions(events.user, events.item, events.timestamp, weight)
    return snapshot(
        type(data)(**{**vars(data), "interactions": ratings}), folds.before_test, folds.t2, 7
    )


def test_one_category_an_item_is_categorical_and_several_are_flags() -> None:
    vocabulary = ["brand=x", "brand=y", "tags=a", "tags=b"]
    given = columns(features(np.eye(3), [[0, 2, 3], [2], [1]], vocabulary))
    np.testing.assert_array_equal(given.cat_feature_data[:, 0], [b"0", b"-1", b"1"])
    expected = [[1, 0, 0, 1, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(given.num_feature_data, expected)


def test_only_the_most_frequent_of_several_categories_are_flags() -> None:
    count = MAX_FLAGS + 20
    rows = [[0, code] for code in range(1, count)] + [[0, 5]]
    given = columns(features(np.zeros((count, 0)), rows, [f"tags={n}" for n in range(count)]))
    assert given.num_feature_data.shape == (count, MAX_FLAGS)
    assert given.num_feature_data[:, 0].all()
    assert given.num_feature_data.sum() == count + MAX_FLAGS
    assert given.cat_feature_data is None


def test_drawn_pairs_are_warm_and_unseen() -> None:
    known = before()
    past, warm = known.interactions, known.inputs.warm_items.copy()
    warm[::3] = False
    drawn = unseen(past, warm, 0)
    assert warm[drawn].all()
    assert 0.3 * len(past) < len(drawn) < len(past)
    everything = Interactions(*(np.zeros(4, np.int32) for _ in range(4)))
    assert not len(unseen(everything, np.array([True, False]), 0))


def test_ratings_say_what_is_liked() -> None:
    known = rated()
    past = known.interactions
    counts = CatBoostContent(positive=4)._counts(known, 0)
    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(past.item, minlength=80))
    assert not counts[0, 1::2].any()
    assert not counts[1, ::2].any()
    drawn = CatBoostContent()._counts(known, 0)
    np.testing.assert_array_equal(drawn[0], np.bincount(past.item, minlength=80))
    assert 0 < drawn[1].sum() <= len(past)


def test_liked_items_are_told_by_their_attributes_for_everybody() -> None:
    known = rated()
    flag = np.arange(80)[:, None] % 2
    rows = [[int(item % 4)] for item in range(80)]
    items = features(flag, rows, [f"brand={n}" for n in range(4)])
    inputs = type(known.inputs)(**{**vars(known.inputs), "item_features": items})
    known = Snapshot(**{**vars(known), "inputs": inputs})
    scores = CatBoostContent(positive=4, iterations=50).fit(known, 7, 0)(np.array([3, 8]))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert scores[0, ::2].min() > scores[0, 1::2].max()


@pytest.mark.parametrize("brands", [1, 7])
def test_categories_do_not_tell_an_items_own_label(brands: int) -> None:
    # Each item is told apart by a number; two rows an item, one a label, would leave 0.2 of that.
    rng = np.random.default_rng(0)
    rows = [[int(item % brands)] for item in range(80)]
    given = columns(features(rng.random((80, 1)), rows, [f"brand={n}" for n in range(brands)]))
    counts = rng.integers(5, 60, (2, 80))
    share = counts[0] / counts.sum(axis=0)
    scores = CatBoostContent(iterations=300).model(given, counts, 0).predict(given)
    assert np.corrcoef(scores, np.log(share / (1 - share)))[0, 1] > 0.5


def test_what_cannot_be_learned_is_said() -> None:
    with pytest.raises(ValueError, match="weighs 6 or more, they weigh up to 5; lower its pos"):
        CatBoostContent(positive=6).fit(rated(), 7, 0)
    with pytest.raises(ValueError, match=r"needs attributes of items; set data\.item_columns"):
        CatBoostContent().check(4, Features.empty(4))

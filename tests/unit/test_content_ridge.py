"""Kernel regression on what is known of items: its equations, cold items, and what it refuses."""

import numpy as np
import pytest

from tests.training import before, features
from train.baselines import content_ridge
from train.baselines.content_ridge import ContentRidge
from train.core.features import Features
from train.data.snapshot import Snapshot

SOME = features(np.eye(4)[:, :3], [[0], [0, 1], [1], []], ["brand=x", "brand=y"])


def test_weights_solve_the_regression() -> None:
    ridge, warm = ContentRidge(regularization=0.3), np.array([0, 1, 3])
    kernel = ridge.kernel(SOME, np.arange(4)).astype(np.float64)
    left = kernel[np.ix_(warm, warm)] + 0.3 * np.eye(3)
    np.testing.assert_allclose(left @ ridge.weights(SOME, warm), kernel[warm], atol=1e-5)


def test_the_kernel_is_1_of_an_item_with_itself_and_falls_with_what_they_share() -> None:
    kernel = ContentRidge().kernel(SOME, np.arange(4))
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(kernel)[:3], 1, atol=1e-5)
    assert kernel[0, 1] > kernel[0, 2] > 0


@pytest.mark.parametrize(
    "only",
    [
        features(np.eye(4), [[]] * 4, []),
        features(np.zeros((4, 0)), [[0], [0], [1], [1]], ["brand=x", "brand=y"]),
    ],
)
def test_one_kind_of_attributes_decides_alone(only: Features) -> None:
    first, other = (ContentRidge(dense=share).kernel(only, np.arange(4)) for share in (0.2, 0.9))
    np.testing.assert_array_equal(first, other)
    np.testing.assert_allclose(np.diag(first), 1, atol=1e-5)


def with_a_twin(known: Snapshot, item: int) -> Snapshot:
    """Return the snapshot with one more item, which nobody took and which is like this one."""
    inputs, count = known.inputs, len(known.inputs.warm_items)
    rows = np.append(np.arange(count), item)
    old = inputs.item_features
    more = Features(old.dense[rows], old.dense_names, old.categories.take(rows), old.vocabulary)
    fields = vars(inputs) | {
        "item_features": more,
        "warm_items": np.append(inputs.warm_items, False),
    }
    return Snapshot(**vars(known) | {"inputs": type(inputs)(**fields)})


def test_an_item_that_nobody_took_is_scored_like_its_twin() -> None:
    item = int(np.argmax(before().statistics.item_count))
    known = with_a_twin(before(), item)
    users = np.unique(known.interactions.user)
    scores = ContentRidge(regularization=0.5).fit(known, 7, 0)(users)
    np.testing.assert_allclose(scores[:, -1], scores[:, item], atol=1e-5)
    took = np.isin(users, known.interactions.user[known.interactions.item == item])
    assert scores[took, -1].mean() > scores[~took, -1].mean() + 0.2


def test_items_without_attributes_or_too_many_of_them_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"^content_ridge needs attributes of items; set data\."):
        ContentRidge().check(4, features(np.zeros((4, 0)), [[]] * 4, []))
    monkeypatch.setattr(content_ridge, "LINEAR_ITEMS", 3)
    with pytest.raises(ValueError, match="of at most 3; found 4; take content_ridge out of"):
        ContentRidge().check(4, SOME)


def test_an_item_at_the_mean_is_like_no_other() -> None:
    """The mean of float32 columns is rounded, and what that leaves is not made a direction."""
    dense = np.array([[0.1, 0.7], [0.3, 0.2], [-0.4, -0.9], [0, 0], [0, 0]])
    items = features(dense, [[]] * 5, [])
    kernel = ContentRidge(sharpness=1).kernel(items, np.arange(5))
    np.testing.assert_allclose(kernel[3:], np.exp(-1), atol=1e-6)

"""Places and colours of items."""

import numpy as np
import pytest

from train.core.features import Features
from train.core.ragged import Ragged
from train.report.item_map import MOST_VALUES, VALUES, item_map


def features(vocabulary: list[str], rows: list[list[int]]) -> Features:
    return Features(np.zeros((len(rows), 0)), (), Ragged.from_rows(rows), tuple(vocabulary))


def test_items_of_a_direction_are_together() -> None:
    rng = np.random.default_rng(0)
    centre = np.eye(3, 8)[np.arange(90) % 3] * rng.uniform(0.1, 9.0, (90, 1))
    vectors = (centre * (1 + 0.01 * rng.normal(size=(90, 8)))).astype(np.float32)
    found = item_map(vectors, Features.empty(90), np.ones(90))
    assert found is not None
    place = found.place
    assert place.shape == (90, 2)
    gaps = np.linalg.norm(place[:, None] - place[None], axis=2) + np.diag(np.full(90, np.inf))
    assert (found.items[gaps.argmin(axis=1)] % 3 == found.items % 3).all()


def test_where_distances_score_lengths_count() -> None:
    """Two places in one direction, one far from the other."""
    rng = np.random.default_rng(0)
    far = np.where(np.arange(60) % 2, 9.0, 1.0)[:, None] * np.ones((1, 4))
    vectors = (far + 0.01 * rng.normal(size=(60, 4))).astype(np.float32)
    found = item_map(vectors, Features.empty(60), np.ones(60), directions=False)
    assert found is not None
    gaps = np.linalg.norm(found.place[:, None] - found.place[None], axis=2)
    gaps[np.diag_indices(60)] = np.inf
    assert (found.items[gaps.argmin(axis=1)] % 2 == found.items % 2).all()


def test_the_most_popular_come_first_and_those_without_interactions_not() -> None:
    count = np.r_[np.zeros(10), np.arange(1, 41)]
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    found = item_map(vectors, Features.empty(50), count)
    assert found is not None
    assert found.items.tolist() == [*range(49, 9, -1)]
    assert (found.column, found.names) == (None, ["other"])
    assert item_map(vectors, Features.empty(50), np.r_[np.ones(19), np.zeros(31)]) is None


def test_colours_are_the_frequent_values_of_the_first_column_of_few() -> None:
    """A column of too many values comes first; then one whose item 0 has two of its values."""
    ids = [f"id={n}" for n in range(MOST_VALUES + 1)]
    genres = [f"genre={n}" for n in range(VALUES + 1)]
    wanted = [0, *np.repeat(np.arange(VALUES + 1), np.arange(12, 3, -1)).tolist()]
    rows = [[number % len(ids), len(ids) + value] for number, value in enumerate(wanted)]
    rows[0].append(len(ids) + 3)
    rows[1] = []
    vectors = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    found = item_map(vectors, features([*ids, *genres], rows), np.arange(len(rows), 0, -1))
    assert found is not None
    assert found.column == "genre"
    assert found.names == [*(str(n) for n in range(VALUES)), "other"]
    assert found.value[0] == 3
    assert found.value[1] == VALUES
    assert found.value[2:].tolist() == wanted[2:]


@pytest.mark.parametrize(("shared", "column"), [(50, "department"), (49, None)])
def test_of_many_values_colours_are_those_that_half_of_the_items_have(
    shared: int, column: str | None
) -> None:
    """100 items with an id each; so many of them are in one of as many departments as named."""
    count, many = 100, 3 * MOST_VALUES
    names = [*(f"id={n}" for n in range(many)), *(f"department={n}" for n in range(many))]
    drawn = np.r_[np.arange(shared) % VALUES, VALUES + np.arange(count - shared)]
    rows = [[number, many + value] for number, value in enumerate(drawn.tolist())]
    vectors = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    found = item_map(vectors, features(names, rows), np.arange(count, 0, -1))
    assert found is not None
    assert found.column == column
    expected = np.minimum(drawn, VALUES) if column else np.zeros(count)
    assert found.value.tolist() == expected.tolist()


def test_the_same_seed_draws_the_same_map() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    one, other = (item_map(vectors, Features.empty(60), np.ones(60)) for _ in range(2))
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.place, other.place)

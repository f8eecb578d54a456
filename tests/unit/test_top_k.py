"""top_k against a plain stable sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.index.exact import rank_catalogue


def _sorted(scores: Array, k: int) -> tuple[Array, Array]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


TIED = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])


@given(
    scores=st.one_of(
        arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 300)), elements=TIED),
        arrays.arrays(
            np.float32,
            st.tuples(st.integers(0, 4), st.integers(1, 300)),
            elements=st.floats(width=32, allow_nan=False),
        ),
    ),
    k=st.integers(1, 40),
)
def test_equals_a_stable_sort(scores: Array, k: int) -> None:
    index, values = top_k(scores, k)
    expected, expected_values = _sorted(scores, k)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(values, expected_values)


@pytest.mark.parametrize("shape", [(1, 30_000), (7, 5_000), (200, 400)])
@pytest.mark.parametrize("levels", [3, 1_000, 10**9])
def test_equals_a_stable_sort_on_wide_rows(shape: tuple[int, int], levels: int) -> None:
    scores = np.random.default_rng(0).integers(0, levels, shape).astype(np.float32)
    for k in (1, 10, 200):
        np.testing.assert_array_equal(top_k(scores, k)[0], _sorted(scores, k)[0])


def test_columns_of_a_transposed_matrix() -> None:
    scores = np.random.default_rng(1).integers(0, 50, (2_000, 8)).astype(np.float32).T
    np.testing.assert_array_equal(top_k(scores, 20)[0], _sorted(scores, 20)[0])


@pytest.mark.parametrize("k", [0, -3])
def test_refuses_k_below_one(k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k}"):
        top_k(np.zeros((2, 3), np.float32), k)


def test_a_catalogue_is_ranked_without_what_is_excluded_or_left_out_of_it() -> None:
    """By hand: item 3 is not in the catalogue, and the second user had the best two items."""
    items = np.array([[3], [2], [1], [9]], np.float32)
    catalogue = np.array([True, True, True, False])
    excluded = Ragged.from_rows([[], [0, 1], [2, 3]])
    ranked = rank_catalogue(np.ones((3, 1), np.float32), items, catalogue, excluded, 3, block=2)
    assert ranked.tolist() == [[0, 1, 2], [2, -1, -1], [0, 1, -1]]


@pytest.mark.parametrize("width", [3, 17, 64])
def test_a_catalogue_of_equal_vectors_is_ranked_by_item(width: int) -> None:
    """Their products differ by the place of a column; 0.0 and -0.0 are the same number."""
    rng = np.random.default_rng(0)
    different = rng.standard_normal((7, width)).astype(np.float32)
    different[:, 0] = 0
    items = different[np.arange(203) % 7]
    items[::2, 0] = -0.0
    users, everything = rng.standard_normal((9, width)).astype(np.float32), np.ones(203, bool)
    ranked = rank_catalogue(users, items, everything, Ragged.empty(9), 203, block=4)
    assert np.array_equal(np.sort(ranked, axis=1), np.tile(np.arange(203), (9, 1)))
    for row in ranked:
        assert (np.diff(row.reshape(7, 29)) == 7).all()

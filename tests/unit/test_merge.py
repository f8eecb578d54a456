"""Reciprocal rank fusion of what several sources propose."""

from collections import defaultdict
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.core.ragged import Array
from train.index.candidates import Candidates
from train.sources.merge import RANK_CONSTANT, fused

ITEMS, ROWS, DEPTH = 12, 3, 5


@st.composite
def proposals(draw: st.DrawFn) -> list[Array]:
    """Draw what 1 to 4 sources propose for three requests: distinct items, and then -1."""
    lists = []
    for _ in range(draw(st.integers(1, 4))):
        rows = [draw(st.permutations(range(ITEMS)))[:DEPTH] for _ in range(ROWS)]
        lengths = [draw(st.integers(0, DEPTH)) for _ in range(ROWS)]
        items = np.full((ROWS, DEPTH), -1, np.int32)
        for row, length in enumerate(lengths):
            items[row, :length] = rows[row][:length]
        lists.append(items)
    return lists


def slow(lists: list[Array], row: int) -> dict[int, tuple[Fraction, int]]:
    """Return the exact sum and the bits of each item that is proposed for a request."""
    total: dict[int, Fraction] = defaultdict(Fraction)
    bits: dict[int, int] = defaultdict(int)
    for number, items in enumerate(lists):
        for rank, item in enumerate(items[row].tolist()):
            if item >= 0:
                total[item] += Fraction(1, RANK_CONSTANT + 1 + rank)
                bits[item] |= 1 << number
    return {item: (total[item], bits[item]) for item in total}


@given(proposals(), st.integers(1, 9))
def test_it_is_the_sum_of_reciprocal_ranks(lists: list[Array], count: int) -> None:
    found = fused(lists, count)
    assert found.items.shape == (ROWS, count) and found.proposed is not None
    for row in range(ROWS):
        expected = slow(lists, row)
        order = sorted(expected, key=lambda item: (-expected[item][0], item))[:count]
        real = found.items[row][found.items[row] >= 0].tolist()
        assert real == order
        assert (found.items[row, len(real) :] == -1).all()
        assert (found.scores[row, len(real) :] == -np.inf).all()
        for place, item in enumerate(real):
            assert abs(found.scores[row, place] - float(expected[item][0])) < 1e-7
            assert found.proposed[row, place] == expected[item][1]


@given(proposals())
def test_the_order_of_the_sources_decides_nothing(lists: list[Array]) -> None:
    np.testing.assert_array_equal(fused(lists, 9).items, fused(lists[::-1], 9).items)


def test_what_two_propose_comes_first() -> None:
    one, two = np.array([[4, 7, 2]], np.int32), np.array([[9, 7, 5]], np.int32)
    assert fused([one, two], 4).items.tolist() == [[7, 4, 9, 2]]


def test_parts_of_candidates_keep_what_belongs_to_them() -> None:
    items = np.arange(6, dtype=np.int32).reshape(2, 3)
    whole = Candidates(items, -items.astype(np.float32), items.astype(np.uint16), items[None] / 2)
    first, second = whole.first(2), whole.take(np.array([1]))
    assert first.items.tolist() == [[0, 1], [3, 4]] and second.items.tolist() == [[3, 4, 5]]
    assert first.proposed is not None and first.proposed.tolist() == [[0, 1], [3, 4]]
    assert second.by_source is not None and second.by_source.tolist() == [[[1.5, 2, 2.5]]]
    plain = Candidates(items, items).first(1)
    assert plain.proposed is None and plain.by_source is None

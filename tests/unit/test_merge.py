"""Reciprocal rank fusion of what several sources propose."""

from collections import defaultdict
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.core.ragged import Array
from train.index.candidates import Candidates
from train.sources.merge import RANK_CONSTANT, filled, fused

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


@given(proposals(), st.lists(st.integers(1, DEPTH), min_size=4, max_size=4), st.integers(1, 9))
def test_what_is_within_the_quotas_comes_first(
    lists: list[Array], quotas: list[int], count: int
) -> None:
    quotas = quotas[: len(lists)]
    found = fused(lists, count, quotas)
    inside = [items[:, :quota] for items, quota in zip(lists, quotas, strict=True)]
    assert found.proposed is not None
    for row in range(ROWS):
        first, every = slow(inside, row), slow(lists, row)
        rest = {item: of for item, of in every.items() if item not in first}
        expected = [
            (item, part[item][1])
            for part in (first, rest)
            for item in sorted(part, key=lambda item: (-part[item][0], item))
        ][:count]
        real = found.items[row] >= 0
        items, bits = found.items[row][real].tolist(), found.proposed[row][real].tolist()
        assert list(zip(items, bits, strict=True)) == expected
        assert (np.diff(found.scores[row][real]) <= 0).all()
        assert (found.scores[row][real] > 0).all()


@given(proposals(), st.integers(1, 4))
def test_the_first_candidates_do_not_depend_on_how_many_there_are(
    lists: list[Array], quota: int
) -> None:
    """Of sources that are asked for more, too, as long as their quotas are the same."""
    quotas = [quota] * len(lists)
    few = fused([items[:, :quota] for items in lists], quota, quotas)
    many = fused(lists, 9, quotas)
    within = [len(slow([items[:, :quota] for items in lists], row)) for row in range(ROWS)]
    for row, size in enumerate(within):
        first = min(quota, size)
        np.testing.assert_array_equal(few.items[row, :first], many.items[row, :first])
        np.testing.assert_array_equal(few.scores[row, :first], many.scores[row, :first])


def test_what_fills_up_comes_last_and_belongs_to_nobody() -> None:
    found = fused([np.array([[4, 7], [1, -1]], np.int32)], 3)
    more = Candidates(np.array([[8, 9, 2], [5, -1, -1]], np.int32), np.zeros((2, 3), np.float32))
    more.scores[1, 1:] = -np.inf
    whole = filled(found, more)
    assert whole.items.tolist() == [[4, 7, 8], [1, 5, -1]]
    assert whole.proposed is not None and whole.proposed.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert whole.scores[0, :2].tolist() == found.scores[0, :2].tolist()
    assert whole.scores[:, 1:].tolist() == [[found.scores[0, 1], 0], [0, -np.inf]]
    # Scores of a source may be below 0, and never rise.
    alone = Candidates(np.array([[4, -1]], np.int32), np.array([[-2, -np.inf]], np.float32))
    best = Candidates(np.array([[8, 9]], np.int32), np.array([[5, -7]], np.float32))
    assert filled(alone, best).scores.tolist() == [[-2, -2]]
    assert filled(alone, best).proposed is None


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

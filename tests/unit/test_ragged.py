"""Ragged rows against lists of lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.core.ragged import Ragged

rows_of = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=8)


def lists(ragged: Ragged) -> list[list[int]]:
    bounds = zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)
    return [ragged.values[a:b].tolist() for a, b in bounds]


def check(ragged: Ragged, expected: list[list[int]]) -> None:
    assert lists(ragged) == expected
    assert ragged.values.dtype == np.int32
    assert ragged.offsets.dtype == np.int64
    assert len(ragged) == len(expected)


@given(rows_of)
def test_rows_come_back(rows):
    ragged = Ragged.from_rows(rows)
    check(ragged, rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.rows.tolist() == [i for i, row in enumerate(rows) for _ in row]


@given(rows_of, st.data())
def test_take_picks_rows_and_minus_one_an_empty_one(rows, data):
    index = data.draw(st.lists(st.integers(-1, len(rows) - 1), max_size=12))
    taken = Ragged.from_rows(rows).take(np.array(index, dtype=np.int64))
    check(taken, [rows[i] if i >= 0 else [] for i in index])


@given(rows_of, st.integers(1, 7))
def test_last_is_padded_in_front(rows, count):
    expected = [([-1] * count + row)[-count:] for row in rows]
    found = Ragged.from_rows(rows).last(count)
    assert found.shape == (len(rows), count)
    assert found.dtype == np.int32
    assert found.tolist() == expected


@given(st.lists(st.tuples(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9))), max_size=8))
def test_join_appends_row_by_row(pairs):
    left, right = (Ragged.from_rows([pair[side] for pair in pairs]) for side in (0, 1))
    check(left.join(right), [a + b for a, b in pairs])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=20))
def test_pairs_are_grouped_in_their_order(pairs):
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    values = np.array([value for _, value in pairs], dtype=np.int64)
    expected = [[value for row, value in pairs if row == group] for group in range(5)]
    check(Ragged.from_pairs(rows, values, 5), expected)


@given(st.integers(0, 9))
def test_empty_rows(count):
    check(Ragged.empty(count), [[]] * count)


@given(rows_of)
def test_the_complement_is_all_that_is_not_in_a_row(rows):
    expected = [[i for i in range(100) if i not in row] for row in rows]
    check(Ragged.from_rows(rows).complement(100), expected)

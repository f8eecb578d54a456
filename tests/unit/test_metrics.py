"""Metrics against NIST's trec_eval, and by hand."""

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from train.core.ragged import Array, Ragged
from train.metrics.ranking import (
    NAMES,
    coverage,
    inverse_user_frequency,
    novelty,
    per_positive,
    per_user,
)

CUTS = (1, 3, 10)
MEASURES = {"recall": "recall", "ndcg": "ndcg_cut", "map": "map_cut", "precision": "P"}


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Array, list[set[int]]]:
    items = draw(st.integers(10, 40))
    users = draw(st.integers(1, 5))
    rows = []
    for _ in range(users):
        length = draw(st.integers(1, 10))
        row = draw(st.permutations(range(items)))[:length]
        rows.append([*row, *[-1] * (10 - length)])
    relevant = draw(
        st.lists(st.sets(st.integers(0, items - 1), min_size=1), min_size=users, max_size=users)
    )
    return np.array(rows, dtype=np.int32), relevant


def _trec(ranked: Array, relevant: list[set[int]], k: int) -> dict[str, list[float]]:
    wanted = {str(u): {str(i): 1 for i in items} for u, items in enumerate(relevant)}
    runs = {
        str(u): {str(i): 100.0 - place for place, i in enumerate(row) if i >= 0}
        for u, row in enumerate(ranked)
    }
    names = {f"{measure}.{k}" for measure in [*MEASURES.values(), "success"]}
    found = pytrec_eval.RelevanceEvaluator(wanted, names).evaluate(runs)
    values = {
        name: [found[str(u)][f"{measure}_{k}"] for u in range(len(ranked))]
        for name, measure in {**MEASURES, "hit_rate": "success"}.items()
    }
    # Its reciprocal rank has no cut of its own.
    cut = {u: dict([*run.items()][:k]) for u, run in runs.items()}
    first = pytrec_eval.RelevanceEvaluator(wanted, {"recip_rank"}).evaluate(cut)
    values["mrr"] = [first.get(u, {"recip_rank": 0.0})["recip_rank"] for u in runs]
    # trec_eval divides average precision by all relevant items, ours by those that fit in k
    fits = [len(items) / min(len(items), k) for items in relevant]
    values["map"] = [value * factor for value, factor in zip(values["map"], fits, strict=True)]
    return values


@given(rankings())
def test_agree_with_trec_eval(drawn: tuple[Array, list[set[int]]]) -> None:
    ranked, relevant = drawn
    for k in CUTS:
        expected = _trec(ranked, relevant, k)
        ours = per_user(ranked, Ragged.from_rows([sorted(items) for items in relevant]), k)
        assert set(ours) == set(NAMES) == set(expected)
        for name in NAMES:
            np.testing.assert_allclose(ours[name], expected[name], rtol=1e-6, err_msg=name)


def test_by_hand() -> None:
    ranked = np.array([[4, 7, 1], [0, 1, 2]], dtype=np.int32)
    values = per_user(ranked, Ragged.from_rows([[7, 9], [0, 1, 2, 3]]), 3)
    second = 1 / np.log2(3)
    assert values["recall"].tolist() == [0.5, 0.75]
    assert values["precision"].tolist() == pytest.approx([1 / 3, 1.0])
    assert values["ndcg"].tolist() == pytest.approx([second / (1 + second), 1.0])
    assert values["map"].tolist() == pytest.approx([0.25, 1.0])
    assert values["mrr"].tolist() == [0.5, 1.0]
    assert values["hit_rate"].tolist() == [1.0, 1.0]


def test_users_without_relevant_items_are_nan() -> None:
    ranked = np.zeros((2, 1), dtype=np.int32)
    for values in per_user(ranked, Ragged.from_rows([[], [0]]), 1).values():
        assert np.isnan(values[0])
        assert values[1] == 1.0
    for values in per_user(ranked, Ragged.empty(2), 1).values():
        assert np.isnan(values).all()


def test_repeated_relevant_items_count_once() -> None:
    ranked = np.array([[3, 5]], dtype=np.int32)
    once = per_user(ranked, Ragged.from_rows([[3, 4]]), 2)
    twice = per_user(ranked, Ragged.from_rows([[3, 4, 4, 3]]), 2)
    assert once == twice


def test_padding_never_hits() -> None:
    ranked = np.full((1, 5), -1, dtype=np.int32)
    assert per_user(ranked, Ragged.from_rows([[0, 1]]), 5)["recall"].tolist() == [0.0]


def test_too_few_columns() -> None:
    with pytest.raises(ValueError, match=r"ranked \[1, >= 10\], got \[1, 5\]"):
        per_user(np.zeros((1, 5), np.int32), Ragged.from_rows([[0]]), 10)


def test_coverage_ignores_padding() -> None:
    assert coverage(np.array([[0, 1], [1, -1]]), 4) == 0.5


def test_per_positive_by_hand() -> None:
    """Ranks 1 and none of the first user's two, ranks 0 and 2 of the second's two."""
    ranked = np.array([[4, 7, 1], [0, 5, 2]], dtype=np.int32)
    values = per_positive(ranked, Ragged.from_rows([[7, 9], [0, 2]]), 3)
    assert values["pairs"].tolist() == [2, 2]
    assert values["recall"].tolist() == [1, 2]
    assert values["ndcg"].tolist() == pytest.approx([1 / np.log2(3), 1 + 1 / np.log2(4)])
    assert per_positive(ranked, Ragged.from_rows([[7], [2]]), 1)["recall"].tolist() == [0, 0]


@given(rankings())
def test_per_positive_counts_the_items_above_each_positive(
    drawn: tuple[Array, list[set[int]]],
) -> None:
    ranked, relevant = drawn
    for k in CUTS:
        values = per_positive(ranked, Ragged.from_rows([sorted(items) for items in relevant]), k)
        for user, items in enumerate(relevant):
            row = ranked[user].tolist()
            ranks = [row.index(item) for item in items if item in row and row.index(item) < k]
            assert values["pairs"][user] == len(items)
            assert values["recall"][user] == len(ranks)
            expected = sum(1 / np.log2(rank + 2) for rank in ranks)
            assert values["ndcg"][user] == pytest.approx(expected)


def test_novelty_by_hand() -> None:
    """Four users: item 0 was taken by all, 1 by two, 2 (twice) by one, 3 by none."""
    histories = Ragged.from_rows([[0, 1], [0, 1], [0, 2, 2], [0], []])
    frequency = inverse_user_frequency(histories, 4)
    assert frequency.tolist() == [0.0, 1.0, 2.0, 2.0]
    ranked = np.array([[0, 2, 1], [1, -1, -1], [-1, -1, -1]], dtype=np.int32)
    assert novelty(ranked, frequency, 3)[:2].tolist() == [1.0, 1.0]
    assert novelty(ranked, frequency, 1)[:2].tolist() == [0.0, 1.0]
    assert np.isnan(novelty(ranked, frequency, 3)[2])

"""The report of a test against counts by hand: cuts, seen items, groups and the ceiling."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.training import exact_recommender, small
from train.core.ragged import Ragged
from train.data.snapshot import Holdout, Snapshot, held_out, holdout_fingerprint, snapshot
from train.data.splits.times import Time
from train.evaluation.breakdown import RARE, groups
from train.evaluation.evaluate import Evaluated, evaluate
from train.evaluation.rankings import Rankings, rank_systems
from train.evaluation.settings import Evaluation
from train.metrics.ranking import NAMES, per_user
from train.recommender.recommender import Recommender
from train.report.text import render

SETTINGS = Evaluation(k=5, more_k=(12, 20), resamples=100)
CANDIDATES = 15


@cache
def known() -> Snapshot:
    data, folds = small()
    return snapshot(data, folds.before_test, folds.t2, SETTINGS.recent_days)


@cache
def stage() -> Recommender:
    """Return a stage 1 of vectors that nobody trained, as of the test."""
    data, _ = small()
    rng = np.random.default_rng(0)
    users = rng.normal(size=(len(data.users), 4)).astype(np.float32)
    items = rng.normal(size=(len(data.items), 4)).astype(np.float32)
    return exact_recommender(data, known(), users, items, candidates=CANDIDATES)


@cache
def window() -> Holdout:
    data, folds = small()
    return held_out(data, folds, known())


@cache
def ranked() -> Rankings:
    return rank_systems(stage(), window(), SETTINGS, 0)


@cache
def evaluated() -> Evaluated:
    return evaluate(stage(), window(), SETTINGS, 0)


def rows(relevant: Ragged) -> list[set[int]]:
    return [set(relevant.values[a:b].tolist()) for a, b in pairwise(relevant.offsets)]


def test_unseen_rankings_have_no_seen_items_and_the_others_are_of_scores_alone() -> None:
    users = window().users
    seen = rows(known().histories.take(users))
    scores = stage().user_vectors[users] @ stage().item_vectors.T
    scores[:, ~known().inputs.warm_items] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(ranked().all_items["stage_1"], expected)
    for name, items in ranked().unseen.items():
        assert items.shape == ranked().all_items[name].shape == (len(users), 20)
        assert not any(had & set(row.tolist()) for had, row in zip(seen, items, strict=True))
    assert ranked().candidates.shape == (len(users), CANDIDATES)


def test_without_the_seen_the_order_of_the_others_stays() -> None:
    """What is left of the ranking of all items is how the ranking of unseen ones begins."""
    seen = rows(known().histories.take(window().users))
    for name in ("popularity", "stage_1"):
        both = zip(ranked().all_items[name], ranked().unseen[name], seen, strict=True)
        for everything, unseen, had in both:
            left = [item for item in everything.tolist() if item not in had]
            assert unseen[: len(left)].tolist() == left


def test_the_report_has_the_means_of_every_system_and_cut() -> None:
    report, relevant = evaluated().report, window().relevant
    for name, items in ranked().unseen.items():
        assert list(report["systems"][name]) == [*NAMES, "novelty", "coverage"]
        for metric in NAMES:
            expected = per_user(items, relevant, 5)[metric].mean()
            assert report["systems"][name][metric]["mean"] == pytest.approx(expected)
        for cut in (12, 20):
            expected = per_user(items, relevant, cut)["recall"].mean()
            assert report["more_k"][str(cut)][name]["recall"]["mean"] == pytest.approx(expected)
    seen = per_user(ranked().all_items["stage_1"], relevant, 5)["ndcg"].mean()
    assert report["all_items"]["stage_1"]["ndcg"]["mean"] == pytest.approx(seen)


def test_each_positive_counts_once() -> None:
    report, wanted = evaluated().report, rows(window().relevant)
    for cut in (5, 12, 20):
        ranks = [
            row[:cut].index(item) if item in row[:cut] else math.inf
            for row, items in zip(ranked().unseen["stage_1"].tolist(), wanted, strict=True)
            for item in items
        ]
        found = report["per_positive"][str(cut)]["stage_1"]
        assert found["recall"]["mean"] == pytest.approx(np.mean([rank < cut for rank in ranks]))
        ndcg = [1 / math.log2(rank + 2) if rank < cut else 0 for rank in ranks]
        assert found["ndcg"]["mean"] == pytest.approx(np.mean(ndcg))
        assert found["recall"]["low"] <= found["recall"]["mean"] <= found["recall"]["high"]


def test_ndcg_is_kept_by_user() -> None:
    expected = per_user(ranked().unseen["stage_1"], window().relevant, 5)["ndcg"]
    np.testing.assert_array_equal(evaluated().ndcg["stage_1"], expected)
    assert list(evaluated().ndcg) == list(evaluated().report["systems"])


def test_users_are_in_one_group_each_and_a_group_has_its_own_mean() -> None:
    parts = groups(window())
    names = ("short_history", "middle_history", "long_history")
    assert sum(parts[name].facts["pairs"] for name in names) == len(window().relevant.values)
    assert min(parts[name].facts["users"] for name in names) > 0.2 * len(window().users)
    lengths = known().histories.lengths[window().users]
    ndcg = evaluated().ndcg["stage_1"]
    for name in names:
        least, most = parts[name].facts["least"], parts[name].facts["most"]
        inside = (lengths >= least) & (lengths <= most)
        assert inside.sum() == parts[name].facts["users"]
        found = evaluated().report["groups"][name]["systems"]["stage_1"]["ndcg"]["mean"]
        assert found == pytest.approx(ndcg[inside].mean())
    assert parts["cold_users"].facts == {"users": 0, "pairs": 0}
    assert evaluated().report["groups"]["cold_users"]["systems"] == {}


def counted(counts: dict[int, int]) -> Snapshot:
    """Return what was known, had these items been taken so often."""
    before = known()
    taken = before.statistics.item_count.copy()
    taken[list(counts)] = list(counts.values())
    return replace(before, statistics=replace(before.statistics, item_count=taken))


def test_rare_and_cold_items_are_those_of_few_and_no_interactions() -> None:
    before = counted({0: RARE, 1: RARE + 1, 2: 0, 3: 1})
    test = Holdout(np.array([3, 4], np.int32), Ragged.from_rows([[0, 1, 2], [2, 3]]), before)
    parts = groups(test)
    assert rows(parts["rare_items"].relevant) == [{0}, {3}]
    assert parts["rare_items"].facts == {"users": 2, "pairs": 2, "least": 1, "most": 5}
    assert rows(parts["cold_items"].relevant) == [{2}, {2}]


@pytest.mark.parametrize("with_cold", [False, True], ids=["warm", "all"])
def test_where_the_split_lets_cold_ones_in_they_are_counted(with_cold: bool) -> None:
    """Item 0 and the first test user, at least, have no interactions before the test."""
    data, folds = small()
    events, user = data.interactions, int(window().users[0])
    known = folds.before_test & (events.item != 0) & (events.user != user)
    kept = known | ~folds.before_test
    data = replace(data, interactions=events.take(kept))
    split = Time(at=folds.t2, validation_at=folds.t1, warm_users=False, warm_items=False)
    folds = split.folds(data.interactions, len(data.users), len(data.items))
    before = snapshot(data, folds.before_test, folds.t2, SETTINGS.recent_days, with_cold)
    vectors = stage().user_vectors, stage().item_vectors
    found = exact_recommender(data, before, *vectors, candidates=CANDIDATES)
    test = held_out(data, folds, before)
    report = evaluate(found, test, SETTINGS, 0).report
    cold_user, cold_item = report["groups"]["cold_users"], report["groups"]["cold_items"]
    assert cold_user["users"] >= 1
    assert cold_user["least"] == cold_user["most"] == 0
    assert cold_item["pairs"] > 0
    found_any = any(of["recall"]["mean"] > 0 for of in cold_item["systems"].values())
    assert found_any == (report["cold_catalogue"] > 0) == with_cold
    cold = f"{cold_user['users']} users without a history, and {cold_item['pairs']} pairs"
    said = " ".join(render({"metrics": report, "reranker": {}}).split())
    assert cold in said
    assert ("which no system can recommend" in said) == (not with_cold)
    assert ("which only attributes tell apart" in said) == with_cold


def test_the_test_is_the_same_whatever_else_the_data_has() -> None:
    data, _ = small()
    ids = data.users, data.items
    swapped = Ragged(window().relevant.values.copy(), window().relevant.offsets)
    swapped.values[:2] = swapped.values[1::-1]
    again = holdout_fingerprint(*ids, replace(window(), relevant=swapped))
    assert again == holdout_fingerprint(*ids, window()) == evaluated().report["test_sha256"]
    other = window().relevant.values.copy()
    other[0] = (set(range(80)) - rows(window().relevant)[0]).pop()
    changed = replace(window(), relevant=Ragged(other, window().relevant.offsets))
    assert holdout_fingerprint(*ids, changed) != again


def lines(report: dict[str, Any]) -> list[str]:
    return render({"metrics": report, "reranker": {}}).splitlines()


def test_the_tables_fit_the_terminal() -> None:
    said = lines(evaluated().report)
    assert max(map(len, said)) <= 122
    text = "\n".join(said)
    for word in ("recall@5", "novelty@5", "recent popularity", "middle", "recall@20", "(bits)"):
        assert word in text
    assert "0 users without a history, and 0 pairs" in text
    assert "…" not in text


def test_a_report_of_before_has_the_first_table() -> None:
    new = ("groups", "all_items", "per_positive", "more_k", "test_sha256")
    report = {key: value for key, value in evaluated().report.items() if key not in new}
    assert "recall@5" in "\n".join(lines(report))


def test_further_cuts_change_nothing_at_the_first() -> None:
    settings = SETTINGS.model_copy(update={"more_k": ()})
    short = evaluate(stage(), window(), settings, 0).report
    assert short["more_k"] == {}
    for part in ("systems", "all_items"):
        for name, values in short[part].items():
            for metric, value in values.items():
                assert value == pytest.approx(evaluated().report[part][name][metric])
    assert "Further cuts" not in render({"metrics": short, "reranker": {}})


def test_of_many_test_users_a_sample_is_ranked_for_and_the_report_says_so() -> None:
    every = window().users
    settings = SETTINGS.model_copy(update={"users": 30})
    found, again = (evaluate(stage(), window(), settings, seed) for seed in (0, 1))
    assert (found.users == again.users).all() and set(found.users) < set(every)
    assert found.report["users"] == len(found.users) == 30
    assert found.report["users_in_test"] == len(every)
    rows = np.searchsorted(every, found.users)
    for name, ndcg in evaluated().ndcg.items():
        np.testing.assert_allclose(found.ndcg[name], ndcg[rows], rtol=1e-12)
    assert f"30 users, drawn from {len(every)}" in " ".join(" ".join(lines(found.report)).split())
    assert evaluated().report["users_in_test"] == evaluated().report["users"] == len(every)

"""The gate: which sources propose, and which system is served."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.bundles import make_recommender
from train.config import Run
from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.evaluation.verdict import verdict
from train.index.candidates import Queries
from train.recommender.answers import recommend
from train.recommender.gate import System, chosen, earning_sources
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.report.verdict import verdict_lines
from train.sources.lists import ListSource

rng = np.random.default_rng(0)
BASE = rng.random(400)


def system(name: str, ndcg: Array, simple: int, personal: bool = True) -> System:
    return System(name, ndcg, simple, personal)


def noisy(shift: float, noise: float = 0.01) -> Array:
    drawn = np.random.default_rng(1).standard_normal(400)
    values: Array = BASE + shift + noise * (drawn - drawn.mean())
    return values


def test_the_simplest_within_a_standard_error_is_chosen() -> None:
    best = system("catboost", BASE + 0.1, 6)
    near, far = system("logit", noisy(0.099, 0.3), 5), system("stage_1", noisy(0.05), 4)
    served, ladder = chosen([best, far, near])
    assert served is near
    assert [row["system"] for row in ladder] == ["stage_1", "logit", "catboost"]
    assert ladder[0]["behind"]["low"] > 0
    assert chosen([best, far])[0] is best


def test_what_is_no_better_than_a_simpler_one_is_not_chosen() -> None:
    best = system("blend", BASE + 0.1, 5)
    # One source is just beyond the error of the best; the fusion is worse, and more uncertain.
    als, fusion = system("als", noisy(0.095, 0.05), 1), system("stage_1", noisy(0.093, 0.3), 4)
    served, ladder = chosen([best, als, fusion])
    behind = {row["system"]: row["behind"]["mean"] - row["standard_error"] for row in ladder}
    assert behind["als"] > 0 > behind["stage_1"]
    assert served is best
    assert chosen([best, fusion])[0] is fusion


def test_a_list_is_served_only_where_it_is_the_best() -> None:
    popular, tower = (
        system("popular", noisy(0.1), 0, personal=False),
        system("tower", BASE + 0.1, 3),
    )
    unsure = system("popular", noisy(0.09, 0.5), 0, personal=False)
    assert chosen([unsure, tower])[0] is tower
    assert chosen([replace(popular, ndcg=BASE + 0.2), tower])[0].name == "popular"


def test_users_without_ground_truth_do_not_count() -> None:
    gaps = BASE.copy()
    gaps[::3] = np.nan
    served, ladder = chosen([system("tower", gaps, 3), system("stage_1", gaps - 0.1, 4)])
    assert served.name == "tower"
    assert ladder[1]["behind"]["mean"] == pytest.approx(0.1)


def planted() -> tuple[Recommender, Holdout]:
    """Return a recommender with a copy of one list and a list of hits that no other has."""
    plain = make_recommender(users=60, items=120, reranked=False)
    catalogue = plain.catalogue
    hits = np.flatnonzero(catalogue)[-6:]
    scores = np.linspace(1, 0, 120).astype(np.float32)
    unique = scores.copy()
    unique[hits] = 5
    lists = {
        "list": ListSource(scores, catalogue),
        "copy": ListSource(scores, catalogue),
        "hits": ListSource(unique, catalogue),
    }
    recommender = replace(
        plain,
        candidates=8,
        sources=lists,
        quotas={"tower": None, **dict.fromkeys(lists)},
        served="stage_1",
    )
    users = np.arange(40, dtype=np.int32)
    unseen = [np.setdiff1d(hits, plain.histories.take(users[[u]]).values) for u in users]
    found: Any = object()
    return recommender, Holdout(users, Ragged.from_rows(unseen), found)


def test_a_source_without_which_nothing_is_lost_is_left_out() -> None:
    recommender, holdout = planted()
    kept, facts = earning_sources(recommender, holdout, 4)
    assert "hits" in kept and not {"list", "copy"} <= set(kept)
    assert facts["hits"]["kept"] and facts["hits"]["marginal"]["low"] > 0
    assert facts["hits"]["recall"]["mean"] > facts["list"]["recall"]["mean"]


def test_a_source_that_orders_candidates_is_kept_though_it_adds_none() -> None:
    plain = make_recommender(users=60, items=120, reranked=False)
    catalogue = plain.catalogue
    items = np.flatnonzero(catalogue)
    scores: Any = np.zeros(120, dtype=np.float32)
    scores[items] = np.linspace(1, 0, len(items))
    wanted = items[4:12]
    sharp = scores.copy()
    sharp[wanted] += 5
    recommender = replace(
        plain,
        candidates=len(items),
        sources={"sharp": ListSource(sharp, catalogue), "plain": ListSource(scores, catalogue)},
        quotas={"tower": None, "sharp": None, "plain": None},
        served="stage_1",
    )
    users = np.arange(40, dtype=np.int32)
    unseen = [np.setdiff1d(wanted, plain.histories.take(users[[u]]).values) for u in users]
    found: Any = object()
    kept, facts = earning_sources(recommender, Holdout(users, Ragged.from_rows(unseen), found), 4)
    assert facts["sharp"]["marginal"]["mean"] == 0 < facts["sharp"]["order"]["low"]
    assert "sharp" in kept


def test_one_source_alone_can_be_served_and_explained() -> None:
    recommender, _ = planted()
    request = Request(user_id=1003, k=4, explain=True)
    alone = recommend(replace(recommender, served="hits"), [request])[0]["items"]
    merged = recommend(recommender, [request])[0]["items"]
    history = recommender.histories.take(np.array([3]))
    user = np.array([3], dtype=np.int32)
    best = recommender.sources["hits"].candidates(Queries(user, history, history), 4).items[0]
    assert [item["item_id"] for item in alone] == recommender.items.external(best)
    assert all("proposed_by" not in item for item in alone)
    assert all(item["proposed_by"] for item in merged)
    assert {name for item in merged for name in item["proposed_by"]} <= {*recommender.quotas}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quotas": {"tower": None, "absent": None}}, "sources: expected one or more of tower"),
        ({"quotas": {}}, "got none"),
        ({"served": "everything"}, "served: expected stage_1, both_stages or one of tower"),
    ],
)
def test_what_is_not_there_cannot_be_served(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(planted()[0], **changes)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["tower", "als", "als"], "more than once: als"),
        (["als"], "expected the tower among them"),
        (
            ["tower", "alz"],
            "unknown source 'alz'; available: als, buy_again, category_popularity, ease",
        ),
        (["tower", {"name": "als", "quota": 0}], "greater than or equal to 1"),
    ],
)
def test_sources_of_a_run_are_checked(sources: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Run.model_validate({"data": "generated", "sources": sources})


def test_the_verdict_is_the_relative_gain_over_the_best_baseline() -> None:
    ndcg = {"popularity": 0.5 * BASE, "ease": BASE, "both_stages": 1.1 * BASE}
    found = verdict(ndcg, "both_stages", ["popularity", "ease"], 200, 0)
    assert (found["served"], found["baseline"], found["users"]) == ("both_stages", "ease", 400)
    assert found["gain"] == pytest.approx({"mean": 0.1, "low": 0.1, "high": 0.1})
    assert verdict(ndcg, "both_stages", [], 200, 0) == {}


def said(mean: float, low: float, high: float, users: int = 1000) -> str:
    gain = {"mean": mean, "low": low, "high": high}
    found = {"served": "both_stages", "baseline": "recent_popularity", "users": users, "gain": gain}
    return " ".join(verdict_lines({"metrics": {"verdict": found, "k": 10, "users": users}}))


def test_the_verdict_is_said_in_words() -> None:
    assert "by 5.1 % [1.9 %, 8.4 %]" in said(0.051, 0.019, 0.084)
    assert "too little to tell" in said(0.02, -0.01, 0.05)
    worse = said(-0.02, -0.05, 0.01, users=50)
    assert worse.startswith("WARNING") and "recent popularity" in worse and "50 users" in worse
    assert verdict_lines({"metrics": {}}) == []

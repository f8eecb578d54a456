"""Recommending from several sources: as many as are asked for, offline as over HTTP."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.bundles import make_recommender
from train.core.ragged import Array
from train.evaluation.rankings import rank_stages
from train.index.candidates import Queries
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.sources.base import Source
from train.sources.item_to_item import ItemToItemSource
from train.sources.lists import ListSource

USERS, ITEMS = 40, 120
EMPTY = ItemToItemSource.strongest(np.zeros((1, 1)), np.zeros(1, int), np.ones(ITEMS, bool), 1)
NOTHING = {"none": EMPTY}


@cache
def stage() -> Recommender:
    """Return stage 1 of towers, a list, and weights from a few items to a few others."""
    made = make_recommender(USERS, ITEMS, reranked=False)
    rng = np.random.default_rng(0)
    few = np.where(rng.random((ITEMS, ITEMS)) < 0.004, rng.random((ITEMS, ITEMS)), 0)
    sources: dict[str, Source] = {
        "few": ItemToItemSource.strongest(few, np.arange(ITEMS), made.catalogue, 50),
        "list": ListSource(rng.random(ITEMS).astype(np.float32), made.catalogue),
    }
    quotas = {"tower": 5, "few": None, "list": 3}
    return replace(made, candidates=20, sources=sources, quotas=quotas, served="stage_1")


def of(*names: str, served: str = "stage_1") -> Recommender:
    return replace(stage(), quotas={name: stage().quotas[name] for name in names}, served=served)


def asked(k: int, **rest: object) -> list[Request]:
    return [Request(user_id=1000 + user, k=k, **rest) for user in range(USERS)]  # type: ignore[arg-type]


def items(answers: list[dict[str, object]]) -> list[list[int]]:
    return [[item["item_id"] for item in answer["items"]] for answer in answers]  # type: ignore[attr-defined]


def possible(user: int) -> set[int]:
    """Return the ids of what the catalogue has for a user."""
    seen = stage().histories.take(np.array([user])).values
    return set(stage().items.external(np.setdiff1d(np.flatnonzero(stage().catalogue), seen)))


SYSTEMS = [of("tower", "few", "list"), of("few"), of("tower", "few", served="few"), of("tower")]


@pytest.mark.parametrize("recommender", SYSTEMS, ids=["fusion", "one", "alone", "tower"])
@pytest.mark.parametrize("k", [4, 20, 30, 500])
def test_as_many_come_as_are_asked_for(recommender: Recommender, k: int) -> None:
    """Quotas and sources that have nothing for a user notwithstanding; none twice, none seen."""
    for user, found in enumerate(items(recommend(recommender, asked(k)))):
        assert len(found) == len(set(found)) == min(k, len(possible(user)))
        assert set(found) <= possible(user)


@pytest.mark.parametrize("recommender", SYSTEMS, ids=["fusion", "one", "alone", "tower"])
def test_the_best_do_not_depend_on_how_many_are_asked_for(recommender: Recommender) -> None:
    few, many = (items(recommend(recommender, asked(k))) for k in (7, 60))
    assert few == [found[:7] for found in many]


@pytest.mark.parametrize("recommender", SYSTEMS, ids=["fusion", "one", "alone", "tower"])
def test_a_request_alone_is_answered_as_among_others(recommender: Recommender) -> None:
    requests = [*asked(30), *asked(7, history=[6, 7, 8]), Request(history=[9], k=40), Request()]
    together = recommend(recommender, requests)
    assert together == [recommend(recommender, [request])[0] for request in requests]


def test_what_fills_up_is_popular_and_excluded_nowhere() -> None:
    recommender, popular = of("few"), stage().items.external(stage().popular)
    found = items(recommend(recommender, asked(30)))
    history = stage().histories.take(np.arange(USERS))
    queries = Queries(np.arange(USERS, dtype=np.int32), history, history)
    own = stage().sources["few"].candidates(queries, 30).items
    assert (own[:, 0] >= 0).sum() > 0 and (own[:, -1] < 0).all()
    for user, row in enumerate(own):
        best = stage().items.external(row[row >= 0])
        rest = [item for item in popular if item in possible(user) - set(best)]
        assert found[user] == (best + rest)[:30]
    without = Request(user_id=1000, k=30, exclude=found[0][-3:])
    [fewer] = items(recommend(recommender, [without]))
    assert fewer[:27] == found[0][:27]
    assert not set(fewer) & set(found[0][-3:])


def test_scores_never_rise() -> None:
    for recommender in SYSTEMS:
        for answer in recommend(recommender, asked(60)):
            scores = [item["score"] for item in answer["items"]]
            assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("k", [10, 20, 45])
def test_what_is_measured_is_what_is_served(k: int) -> None:
    """Each source alone and the fusion, at cuts beyond the candidates, too."""
    users = np.arange(USERS)
    whole = of("tower", "few", "list")
    ranked = rank_stages(whole, users, k)
    for served, system in (
        ("stage_1", "stage_1"),
        *((name, f"source_{name}") for name in whole.quotas),
    ):
        answers = recommend(replace(whole, served=served), asked(k))
        assert items(answers) == [stage().items.external(row) for row in first(ranked[system], k)]


def first(ranked: Array, k: int) -> list[Array]:
    return [row[:k][row[:k] >= 0] for row in ranked]


def test_answers_say_which_sources_proposed_an_item() -> None:
    """Within their quotas, as long as there are such; beyond these, those that had it anyway."""
    two = of("tower", "list")
    [answer] = recommend(two, [Request(user_id=1003, k=30, explain=True)])
    within = {
        name: items(recommend(replace(two, served=name), [Request(user_id=1003, k=quota)]))[0]
        for name, quota in two.limits.items()
    }
    union = set(within["tower"]) | set(within["list"])
    head, rest = answer["items"][: len(union)], answer["items"][len(union) :]
    assert {item["item_id"] for item in head} == union
    for item in head:
        assert item["proposed_by"] == [name for name in within if item["item_id"] in within[name]]
    assert {tuple(item["proposed_by"]) for item in rest} > {("tower",), ("list",)}
    # What only fills up was proposed by nobody.
    one = replace(
        of("few"), quotas={"few": None, "none": None}, sources={**stage().sources, **NOTHING}
    )
    [answer] = recommend(one, [Request(user_id=1003, k=30, explain=True)])
    assert answer["items"][-1]["proposed_by"] == []

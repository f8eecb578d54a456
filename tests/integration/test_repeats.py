"""A run where people buy the same again: from planted purchases to answers over HTTP."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.test_fit import make_run
from tests.serving import serving
from tests.waiting import BOUND
from train.bundle.bundle import TOWER, Bundle, open_bundle, write
from train.config import Run
from train.data.snapshot import held_out
from train.data.statistics import DAY
from train.evaluate import measure
from train.evaluation.rankings import rank_stages
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.recommender import BOTH_STAGES
from train.recommender.requests import Request
from train.report.text import render
from train.steps import prepare, refit_snapshot

USERS, ITEMS, VISITS = 200, 90, 12


def purchases(place: Path) -> Path:
    """Write visits of users who take three of their four staples and one other item each time."""
    rng = np.random.default_rng(0)
    staples = np.array([rng.permutation(ITEMS)[:4] for _ in range(USERS)])
    rows = []
    for user in range(USERS):
        for day in np.sort(rng.integers(0, 200, VISITS)):
            basket = {*rng.permutation(staples[user])[:3], int(ITEMS * rng.random() ** 2)}
            rows += [(user, int(item), int(day) * DAY) for item in sorted(basket)]
    columns = np.array(rows).T
    table = pa.table(dict(zip(("user_id", "item_id", "timestamp"), columns, strict=True)))
    pq.write_table(table, place / "purchases.parquet")
    return place / "purchases.parquet"


def shop(place: Path, seen: str, **changes: Any) -> Run:
    table: dict[str, Any] = {
        "name": seen,
        "seen": seen,
        "data": {
            "name": "files",
            "interactions": str(purchases(place)),
            "timestamp_unit": "order",
        },
        "sources": ["tower", "recent_popularity", *(["buy_again"] if seen != "exclude" else [])],
        "final_fit": "before_test",
        "evaluation": {"resamples": 200, "folds": 2 if seen == "allow" else 1},
        "reranker": "logit",
    }
    return make_run(place, **(table | changes))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def allowed(place: Path) -> Bundle:
    return open_bundle(fit(shop(place, "allow")))


@pytest.fixture(scope="module")
def reranked(place: Path, allowed: Bundle) -> Bundle:
    """Return the bundle with both stages served, whatever its gate chose."""
    recommender = replace(allowed.recommender, served=BOTH_STAGES)
    facts = {"name": "reranked", "config": allowed.manifest["config"]}
    extra = {TOWER: (allowed.folder / TOWER).read_bytes()}
    version = write(place / "reranked", recommender, facts, extra)
    return open_bundle(place / "reranked" / version)


def test_buy_again_beats_popularity_where_people_buy_the_same_again(allowed: Bundle) -> None:
    systems = allowed.manifest["metrics"]["systems"]
    ndcg = {name: of["ndcg"]["mean"] for name, of in systems.items()}
    # Staples are drawn for each user, so that popularity knows next to nothing.
    assert ndcg["buy_again"] > 2 * max(ndcg["popularity"], ndcg["recent_popularity"])
    assert ndcg["source_buy_again"] > 0.9 * ndcg["buy_again"]
    assert ndcg["both_stages"] > 2 * ndcg["popularity"]
    assert measure(allowed)["systems"] == allowed.manifest["metrics"]["systems"]


def test_a_bundle_answers_what_was_measured(place: Path, reranked: Bundle) -> None:
    recommender, run = reranked.recommender, shop(place, "allow")
    assert (recommender.seen, recommender.served) == ("allow", BOTH_STAGES)
    data, folds = prepare(run)
    holdout = held_out(data, folds, refit_snapshot(run, data, folds))
    ranked = rank_stages(recommender, holdout.users, 10)["both_stages"]
    asked = [Request(user_id=one, k=10) for one in recommender.users.external(holdout.users)]
    answers = recommend(recommender, asked)
    repeats = 0
    for user, items, answer in zip(holdout.users, ranked, answers, strict=True):
        given = [entry["item_id"] for entry in answer["items"]]
        assert given == recommender.items.external(items[items >= 0])
        own = recommender.histories.take(np.array([user])).values
        repeats += len(set(given) & set(recommender.items.external(own)))
    assert repeats > len(holdout.users)


def test_http_answers_equal_offline_answers_with_repeats(reranked: Bundle) -> None:
    asked = [Request(user_id=user, k=8) for user in range(20)]
    asked += [Request(user_id=3, history=[5, 7, 5], k=8), Request(history=[1, 2, 1], k=8)]
    asked += [Request(user_id=4, exclude=[int(i) for i in range(0, ITEMS, 2)], k=8), Request(k=3)]
    expected = recommend(reranked.recommender, asked)
    with (
        serving(reranked.folder, "--topology", "split") as (url, _),
        httpx.Client(base_url=url, timeout=BOUND) as client,
    ):
        live = [client.post("/recommend", json=one.__dict__).json() for one in asked]
    assert "buy_again" in reranked.recommender.quotas
    for ours, theirs in zip(live, expected, strict=True):
        assert [e["item_id"] for e in ours["items"]] == [e["item_id"] for e in theirs["items"]]
        live_scores, scores = (
            np.array([entry["score"] for entry in answer["items"]]) for answer in (ours, theirs)
        )
        np.testing.assert_allclose(live_scores, scores, atol=1e-5)


def test_folds_are_in_the_report_and_are_not_fitted_again(place: Path, allowed: Bundle) -> None:
    metrics = allowed.manifest["metrics"]
    folds = metrics["folds"]
    assert folds["cuts"][1] < folds["cuts"][0]
    for name, of in metrics["systems"].items():
        assert folds["systems"][name]["ndcg"]["values"][0] == pytest.approx(of["ndcg"]["mean"])
    assert folds["systems"]["buy_again"]["ndcg"]["sd"] >= 0
    assert "2 folds" in render(allowed.manifest)
    assert measure(allowed)["folds"] == folds
    # The folder of a fold is read where it is there: what is written in it comes back.
    file = place / "allow" / "folds" / "2" / "metrics.json"
    known = json.loads(file.read_text())
    known["users"] = 123_456
    file.write_text(json.dumps(known))
    (place / "allow" / "done.json").unlink()
    again = open_bundle(fit(shop(place, "allow")))
    assert again.manifest["metrics"]["folds"]["users"][1] == 123_456
    assert again.manifest["metrics"]["systems"] == metrics["systems"]


@pytest.mark.parametrize("seen", ["exclude", "only"])
def test_other_modes_recommend_new_items_or_only_old_ones(place: Path, seen: str) -> None:
    bundle = open_bundle(fit(shop(place, seen)))
    recommender = bundle.recommender
    assert recommender.seen == seen
    users = np.arange(0, USERS, 7)
    asked = [Request(user_id=one, k=10) for one in recommender.users.external(users)]
    for user, answer in zip(users, recommend(recommender, asked), strict=True):
        own = set(recommender.items.external(recommender.histories.take(np.array([user])).values))
        given = {entry["item_id"] for entry in answer["items"]}
        assert given
        assert given <= own if seen == "only" else given.isdisjoint(own)

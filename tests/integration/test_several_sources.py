"""A bundle of several sources: fitted, opened, and asked over HTTP as it is asked offline."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.test_fit import make_run
from tests.serving import serving
from tests.waiting import BOUND
from train.bundle.bundle import ENCODERS, TOWER, Bundle, open_bundle, write
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.gate import earning_sources
from train.recommender.recommender import BOTH_STAGES, STAGE_1
from train.recommender.requests import Request

SOURCES = [
    "tower",
    {"name": "als", "factors": 8, "alpha": 10, "regularization": 10},
    {"name": "ease", "regularization": 100},
    {"name": "itemknn", "neighbours": 20, "quota": 30},
    {"name": "recent_popularity", "days": 7},
]
NAMES = {"tower", "als", "ease", "itemknn", "recent_popularity"}
# What is served, what of a history, and how the stages are deployed.
SERVED = {
    "both stages": (BOTH_STAGES, "exclude", "split"),
    "the fusion, seen items too": (STAGE_1, "allow", "fused"),
}


@pytest.fixture(scope="module", params=SERVED)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(case: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of all sources, whatever each earns and the gate chooses of them."""
    served, seen, _ = SERVED[case]
    changes: dict[str, Any] = {"sources": SOURCES, "seen": seen, "reranker": "logit"}
    changes |= {"final_fit": "before_test", "evaluation": {"baselines": []}}
    place = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "train.steps.earning_sources", lambda *given: (NAMES, earning_sources(*given)[1])
        )
        fitted = open_bundle(fit(make_run(place, **changes)))
    parts = replace(fitted.recommender, served=served)
    facts = {"name": "several", "config": fitted.manifest["config"]}
    extra = {name: (fitted.folder / name).read_bytes() for name in (ENCODERS, TOWER)}
    return open_bundle(place / write(place, parts, facts, extra))


@pytest.fixture(scope="module")
def client(case: str, bundle: Bundle) -> Iterator[httpx.Client]:
    with (
        serving(bundle.folder, "--topology", SERVED[case][2]) as (url, _),
        httpx.Client(base_url=url, timeout=BOUND) as client,
    ):
        yield client


def asked(bundle: Bundle) -> list[Request]:
    """Return requests of known users and of new ones, with what each may say, and of nobody."""
    users = bundle.recommender.users.external(np.arange(0, 300, 9))
    items = bundle.recommender.items.external(np.arange(120))
    rng = np.random.default_rng(0)
    drawn = [rng.choice(items, 6).tolist() for _ in users]
    known = [Request(user_id=user, k=5 + n) for n, user in enumerate(users)]
    known += [Request(user_id=u, history=d[:2]) for u, d in zip(users, drawn, strict=True)]
    known += [Request(user_id=u, exclude=items[:70], k=90) for u in users[:9]]
    new = [Request(user_id=10**6, history=d, k=50) for d in drawn]
    new += [Request(history=d[:1], exclude=d[1:]) for d in drawn[:9]]
    new += [Request(history=[items[3], items[3]]), Request(history=[10**7]), Request(k=4)]
    new += [Request(user={"age": age, "segment": "family 1"}) for age in (18, 60.5, None)]
    new += [Request(user_id=10**6, user={"interests": ["tag 2", "tag 3"]}, history=drawn[0])]
    known += [Request(user_id=users[n], user={"age": 40 + n, "subscriber": True}) for n in range(4)]
    return known + new + [replace(request, explain=True) for request in known[::4] + new[::4]]


def ask(client: httpx.Client, request: Request) -> Any:
    return client.post("/recommend", json=request.__dict__).json()


def test_attributes_of_a_request(bundle: Bundle, client: httpx.Client) -> None:
    recommender = bundle.recommender
    assert recommender.reads_attributes
    young, old, nobody = recommend(
        recommender, [Request(user={"age": 15}), Request(user={"age": 90}), Request()]
    )
    assert [of["source"] for of in (young, old, nobody)] == ["attributes", "attributes", "popular"]
    assert young["items"] != old["items"]
    ranked = {"user": {"age": 15}, "items": [item["item_id"] for item in young["items"]]}
    assert client.post("/rank", json=ranked).json()["source"] == "attributes"
    for own, message in (
        ({"agee": 3}, "unknown column; there are: segment (category), interests (categories), age"),
        ({"age": "3"}, "age is a column of kind number: expected a number"),
    ):
        refused = client.post("/recommend", json={"user": own})
        assert refused.status_code == 422
        [detail] = refused.json()["detail"]
        assert detail["loc"] == ["body", "user", *own] and message in detail["msg"]


def test_http_answers_equal_offline_answers(bundle: Bundle, client: httpx.Client) -> None:
    requests = asked(bundle)
    expected = recommend(bundle.recommender, requests)
    with ThreadPoolExecutor(12) as pool:
        live = list(pool.map(lambda request: ask(client, request), requests))
    for ours, theirs in zip(live, expected, strict=True):
        assert [item["item_id"] for item in ours["items"]] == [
            item["item_id"] for item in theirs["items"]
        ]
        for one, other in zip(ours.pop("items"), theirs.pop("items"), strict=True):
            for key in ("score", "retrieval_score", "ranking_score"):
                assert one.pop(key, None) == pytest.approx(other.pop(key, None), abs=1e-5)
            assert one == other
        assert ours == theirs


def test_the_bundle_has_what_was_fitted(case: str, bundle: Bundle) -> None:
    recommender = bundle.recommender
    assert set(recommender.quotas) == NAMES == {"tower", *recommender.sources}
    assert recommender.quotas["itemknn"] == 30
    assert (recommender.served, recommender.seen) == SERVED[case][:2]
    assert recommender.reranker is not None


def test_answers_keep_what_requests_say(bundle: Bundle, client: httpx.Client) -> None:
    recommender = bundle.recommender
    (user,) = recommender.users.external(np.array([7]))
    own = set(recommender.items.external(recommender.histories.take(np.array([7])).values))
    every = set(recommender.items.external(np.flatnonzero(recommender.catalogue)))
    may = every if recommender.seen == "allow" else every - own
    exclude = sorted(may)[::3]
    answer = ask(client, Request(user_id=user, exclude=exclude, k=500))
    given = [item["item_id"] for item in answer["items"]]
    assert len(given) == len(set(given))
    assert set(given) == may - set(exclude), "as many come as the catalogue has"
    fresh = ask(client, Request(history=sorted(own)[:3], k=500))
    assert fresh["source"] == "history"
    assert (set(sorted(own)[:3]) <= {i["item_id"] for i in fresh["items"]}) == (may == every)


def test_explanations_name_the_sources_that_proposed_an_item(
    bundle: Bundle, client: httpx.Client
) -> None:
    (user,) = bundle.recommender.users.external(np.array([7]))
    history = bundle.recommender.items.external(np.arange(4))
    for request in (Request(user_id=user, k=40), Request(history=history, k=40)):
        items = ask(client, replace(request, explain=True))["items"]
        if len(bundle.recommender.proposing) == 1:
            assert all("proposed_by" not in item for item in items)
            continue
        named = [set(item["proposed_by"]) for item in items]
        assert set().union(*named) == NAMES
        for name in NAMES:
            # Whoever is asked alone gives these items, and no others, within its quota.
            quota = bundle.recommender.limits[name]
            alone = replace(bundle.recommender, served=name)
            [answer] = recommend(alone, [replace(request, k=quota)])
            best = {item["item_id"] for item in answer["items"]}
            assert {i["item_id"] for i in items if name in i["proposed_by"]} <= best
    [popular] = recommend(bundle.recommender, [Request(explain=True, k=3)])
    assert ask(client, Request(explain=True, k=3)) == popular
    assert all("proposed_by" not in item for item in popular["items"])

"""Serving, driven over HTTP: the real command line, real Ray Serve, both topologies."""

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cluster.ports import free_ports
from tests.browser import Browser
from tests.bundles import write_bundle
from tests.serving import Server, family, refused, serving
from tests.waiting import BOUND, wait_until
from train.bundle.bundle import open_bundle
from train.recommender.answers import recommend
from train.recommender.given_items import rank_items, similar_items
from train.recommender.requests import Request

# 127.0.0.1, ::1 and ::ffff:127.0.0.1.
LOOPBACK = re.compile("(0100007F|0{24}01000000|0{16}FFFF00000100007F):")
USERS, ITEMS = 300, 500
SCENARIOS = """
[cheap]
filter = { price = { lt = 10 } }
max_per = { colour = 2 }
fields = ["colour", "price"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundles")
    (place / "rules.toml").write_text(SCENARIOS)
    return write_bundle(place, users=USERS, items=ITEMS)


@pytest.fixture(scope="module", params=["split", "fused"])
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    flags = ("--max-body", 5000, "--max-history", 50, "--scenarios", folder.parent / "rules.toml")
    with (
        serving(folder, "--topology", request.param, *flags) as (url, mark),
        httpx.Client(base_url=url, timeout=BOUND) as client,
    ):
        yield Server(request.param, mark, client, open_bundle(folder))


def test_http_answers_equal_offline_answers(server: Server) -> None:
    rng = np.random.default_rng(1)
    asked = [
        Request(user_id=int(user), k=int(k), exclude=rng.integers(5, 505, 3).tolist())
        for user, k in zip(rng.permutation(300)[:200] + 1000, rng.integers(1, 60, 200), strict=True)
    ]
    asked += [Request(history=rng.integers(5, 505, 8).tolist(), user_id="new") for _ in range(40)]
    asked += [Request(user_id=1000 + i, history=[6, "x"]) for i in range(9)] + [Request(k=7)]
    assert len(asked) == 250
    with ThreadPoolExecutor(16) as pool:
        live = list(pool.map(lambda request: server.ask(**request.__dict__).json(), asked))
    for ours, theirs in zip(live, recommend(server.bundle.recommender, asked), strict=True):
        scores = [np.array([entry.pop("score") for entry in a["items"]]) for a in (ours, theirs)]
        assert ours == theirs
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_explanations_come_over_http(server: Server) -> None:
    answer = server.ask(user_id=1000, k=3, explain=True).json()
    assert (
        answer
        == recommend(server.bundle.recommender, [Request(user_id=1000, k=3, explain=True)])[0]
    )
    assert {"retrieval_score", "retrieval_rank", "ranking_score", "similar_to"} <= set(
        answer["items"][0]
    )


RULES: dict[str, dict[str, Any]] = {
    "filter": {"filter": {"and": [{"colour": {"in": ["red", "blue"]}}, {"price": {"ge": 5}}]}},
    "allow": {"allow": [5, 6, 7, 8, 10**6], "k": 9},
    "seen": {"seen": "allow", "history": [7, 8]},
    "boost": {"boost": [{"filter": {"tags": {"any": ["tag2"]}}, "factor": 9}]},
    "pin": {"pin": [{"item_id": 6, "position": 2}], "explain": True},
    "max_per": {"max_per": {"colour": 2, "tags": 3}, "k": 20},
    "diversity": {"diversity": 0.5, "fields": ["tags"]},
    "all": {
        "filter": {"not": {"tags": {"any": ["tag5"]}}},
        "max_per": {"colour": 3},
        "diversity": 0.3,
        "boost": [{"filter": {"price": {"gt": 30}}, "factor": 0.5}],
        "fields": ["colour"],
    },
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_followed_as_offline(server: Server, name: str) -> None:
    asked = [Request(user_id=1000 + user, **RULES[name]) for user in range(8)]
    with ThreadPoolExecutor(8) as pool:
        live = list(
            pool.map(lambda of: server.ask(user_id=of.user_id, **RULES[name]).json(), asked)
        )
    for ours, theirs in zip(live, recommend(server.bundle.recommender, asked), strict=True):
        same_answer(ours, theirs)


def same_answer(ours: Any, theirs: Any) -> None:
    """Equal but for the last bits of scores."""
    scores = [[item.pop("score") for item in of["items"]] for of in (ours, theirs)]
    for item in (*ours["items"], *theirs["items"]):
        item.pop("ranking_score", None)
    assert ours == theirs
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_scenario_is_named_and_added_to(server: Server) -> None:
    own = {"colour": {"eq": "red"}}
    got = server.ask(user_id=1001, scenario="cheap", filter=own, max_per={"colour": 5}).json()
    rules: Any = {
        "filter": {"and": [{"price": {"lt": 10}}, own]},
        "max_per": {"colour": 5},
        "fields": ["colour", "price"],
    }
    same_answer(got, recommend(server.bundle.recommender, [Request(user_id=1001, **rules)])[0])
    assert {item["fields"]["colour"] for item in got["items"]} == {"red"}
    refused = server.ask(scenario="dear")
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["msg"] == "unknown scenario; available: cheap"


def test_long_histories_are_cut_to_the_newest(server: Server) -> None:
    history = [5 + i % 400 for i in range(90)]
    got = server.ask(history=history).json()
    assert got.pop("history_used") == 50
    same_answer(got, recommend(server.bundle.recommender, [Request(history=history[-50:])])[0])


def test_a_batch_is_answered_as_its_requests_are(server: Server) -> None:
    bodies: list[Any] = [{"user_id": 1000 + i, "k": 3 + i} for i in range(20)]
    bodies += [{"history": [6], "filter": {"colour": {"eq": "red"}}}, {}]
    got = server.client.post("/recommend/batch", json={"requests": bodies}).json()["answers"]
    asked = [Request(**body) for body in bodies]
    for ours, theirs in zip(got, recommend(server.bundle.recommender, asked), strict=True):
        same_answer(ours, theirs)
    bodies[7] = {"max_per": {"color": 1}}
    refused = server.client.post("/recommend/batch", json={"requests": bodies})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "requests", 7, "max_per", "color"]
    assert server.client.post("/recommend/batch", json={"requests": []}).status_code == 422


def test_given_items_are_ranked_and_similar_ones_found(server: Server) -> None:
    recommender = server.bundle.recommender
    got = server.client.post("/rank", json={"user_id": 1002, "items": [50, 6, 7, 10**9]}).json()
    same_answer(got, rank_items(recommender, Request(user_id=1002), [50, 6, 7, 10**9]))
    body = {"items": [50], "not_items": [7], "k": 5, "filter": {"colour": {"eq": "red"}}}
    got = server.client.post("/similar", json=body).json()
    request = Request(k=5, filter={"colour": {"eq": "red"}})
    same_answer(got, similar_items(recommender, [50], [7], request))
    refused = server.client.post("/similar", json={"items": ["nothing"]})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "items"]


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        (
            '{"filter": {"color": {"eq": "red"}}}',
            ["body", "filter", "color"],
            "did you mean colour",
        ),
        (
            '{"filter": {"price": {"in": [1, "2"]}}}',
            ["body", "filter", "price", "in", 1],
            "a number",
        ),
        ('{"boost": [{"filter": {}, "factor": 0}]}', ["body", "boost", 0, "factor"], "than 0"),
        ('{"pin": [{"item_id": 5}]}', ["body", "pin", 0, "position"], "required"),
        ('{"max_per": {"colour": 0}}', ["body", "max_per", "colour"], "than or equal to 1"),
        ('{"diversity": 1.5}', ["body", "diversity"], "less than or equal to 1"),
        ('{"seen": "maybe"}', ["body", "seen"], "'exclude' or 'allow'"),
        ('{"k": "ten"}', ["body", "k"], "valid integer"),
        ('{"k": 0}', ["body", "k"], "greater than or equal to 1"),
        ('{"k": 1001}', ["body", "k"], "less than or equal to 1000"),
        ('{"k": 2.5}', ["body", "k"], "valid integer"),
        ('{"k": 1e40}', ["body", "k"], "valid integer"),
        ('{"k": 10000000000000000000000000000000}', ["body", "k"], "less than or equal to 1000"),
        ('{"user_id": 1.5}', ["body", "user_id", "int"], "valid integer"),
        ('{"user_id": true}', ["body", "user_id", "int"], "valid integer"),
        ('{"user_id": [1]}', ["body", "user_id", "int"], "valid integer"),
        ('{"history": 7}', ["body", "history"], "valid array"),
        ('{"history": [null]}', ["body", "history", 0, "int"], "valid integer"),
        ('{"exclude": {"a": 1}}', ["body", "exclude"], "valid array"),
        ('{"explain": "yes"}', ["body", "explain"], "valid boolean"),
        ('{"hystory": [1]}', ["body", "hystory"], "Extra inputs are not permitted"),
        ("[1, 2]", ["body"], "object"),
        ('{"user_id": ', ["body"], "Invalid JSON"),
        ("", ["body"], "Invalid JSON"),
        ('{"user_id": "\\ud800"}', ["body"], "Invalid JSON"),
    ],
)
def test_bad_requests_are_told_what_was_expected(
    server: Server, body: str, place: list[Any], words: str
) -> None:
    response = server.client.post("/recommend", content=body.encode())
    assert response.status_code == 422
    detail = response.json()["detail"][0]
    assert detail["loc"] == place
    assert words in detail["msg"]


def test_not_utf8_is_refused(server: Server) -> None:
    response = server.client.post("/recommend", content=b'{"user_id": "\xff"}')
    assert response.status_code == 422


def test_bodies_over_the_limit_are_refused(server: Server) -> None:
    fits = json.dumps({"history": ["x" * 40] * 110})
    assert server.client.post("/recommend", content=fits).status_code == 200
    for size in (300, 100_000):
        response = server.client.post("/recommend", json={"history": ["x" * 40] * size})
        assert response.status_code == 413
        assert response.json()["detail"] == (
            "the body is too large: at most 5000 bytes are accepted"
        )


def test_ids_beyond_64_bits_are_unknown_ids(server: Server) -> None:
    answer = server.ask(user_id=10**25, history=[10**25, "5", 6], exclude=[-(10**25)]).json()
    assert (answer["source"], answer["ignored"]) == (
        "history",
        [10**25, "5", -(10**25)],
    )


def test_other_methods_and_paths_are_refused(server: Server) -> None:
    assert server.client.get("/recommend").status_code == 405
    assert server.client.get("/nothing").status_code == 404


def test_health_and_what_is_served(server: Server) -> None:
    version = server.bundle.version
    assert server.client.get("/healthz").json() == {"status": "ready", "bundle": version}
    about = server.client.get("/bundle").json()
    assert (about["version"], about["name"]) == (version, "planted")
    assert about["topology"] == server.topology
    assert about["files"] == dict(server.bundle.manifest["files"])


def test_the_documentation_can_be_read_without_the_internet(
    server: Server, browser: Browser
) -> None:
    url = str(server.client.base_url)
    met = browser.open(f"{url}/docs", shows=".opblock-summary-path")
    paths = ("/recommend", "/recommend/batch", "/rank", "/similar", "/healthz", "/bundle")
    assert all(path in met.text for path in paths)
    assert met.asked <= {url, "data://"}
    assert met.errors == []


def test_the_documentation_describes_recommend(server: Server) -> None:
    described = server.client.get("/openapi.json").json()
    post = described["paths"]["/recommend"]["post"]
    refusals = {"401", "403", "408", "413", "422", "429", "503"}
    assert set(post["responses"]) == {"200"} | refusals
    models = described["components"]["schemas"]
    body = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
    assert models[body]["properties"]["k"]["maximum"] == 1000
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert answer == "#/components/schemas/Answer"


def test_nothing_listens_beyond_loopback(server: Server) -> None:
    sockets = set()
    for folder in family(server.mark):
        with contextlib.suppress(OSError):
            sockets |= {os.readlink(handle) for handle in (folder / "fd").iterdir()}
    addresses = {address for address, inode in listening() if f"socket:[{inode}]" in sockets}
    assert len(addresses) >= 5
    assert {address for address in addresses if not LOOPBACK.match(address)} == set()


def listening() -> Iterator[tuple[str, str]]:
    """Yield the address (hexadecimal, as the kernel writes it) and the inode of what listens."""
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[1], fields[9]


def test_overload_is_refused_fast(folder: Path) -> None:
    flags = ("--topology", "fused", "--max-ongoing", 2, "--max-queued", 2, "--max-batch", 1)
    body = {"user_id": 1000, "history": list(range(5, 405)), "k": 400, "explain": True}
    with (
        serving(folder, *flags) as (url, _),
        httpx.Client(base_url=url, timeout=BOUND) as client,
        ThreadPoolExecutor(64) as pool,
    ):
        codes: set[int] = set()

        def overloaded() -> bool:
            asked = [pool.submit(client.post, "/recommend", json=body) for _ in range(100)]
            for future in asked:
                codes.add(future.result().status_code)
                refused = future.result().status_code == 503
                assert not refused or future.result().headers["retry-after"] == "1"
            return codes >= {200, 503}

        wait_until(overloaded, "answers and refusals of a server that is asked too much")
        assert codes == {200, 503}
        assert client.post("/recommend", json={"user_id": 1000}).status_code == 200


def test_answers_degrade_and_do_not_fail(folder: Path) -> None:
    flags = ("--topology", "split", "--max-wait-ms", 60_000)
    recommender = open_bundle(folder).recommender
    body = {"user_id": 1000, "k": 5, "timeout_ms": 300}
    first = recommend(replace(recommender, served="stage_1"), [Request(user_id=1000, k=5)])[0]
    with (
        serving(folder, *flags) as (url, mark),
        httpx.Client(base_url=url, timeout=BOUND) as client,
        ThreadPoolExecutor(16) as pool,
    ):

        def ask(body: dict[str, Any]) -> dict[str, Any]:
            answer = client.post("/recommend", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        for process in family(mark):
            if b"ServeReplica:raytower:ranking" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        found: list[dict[str, Any]] = []

        def ranked_again() -> bool:
            found.append(ask(body))
            return "degraded" not in found[-1] and len(found) > 20

        wait_until(ranked_again, "stage 2 again")
        lesser = [answer for answer in found if "degraded" in answer]
        assert {answer["degraded"] for answer in lesser} <= {"ranker"}
        assert all(ids_of(answer) == ids_of(first) for answer in lesser)

        late: list[dict[str, Any]] = []

        def some_are_late() -> bool:
            hasty = {**body, "timeout_ms": 1, "history": [6, 7], "explain": True}
            late.extend(pool.map(ask, [hasty] * 64))
            return any(answer.get("degraded") == "late" for answer in late)

        wait_until(some_are_late, "answers to requests that have waited too long")
        seen = {*recommender.items.external(recommender.histories.take(np.array([0])).values), 6, 7}
        popular = [i for i in recommender.items.external(recommender.popular) if i not in seen][:5]
        assert all(ids_of(of) == popular for of in late if of.get("degraded") == "late")


def ids_of(answer: dict[str, Any]) -> list[Any]:
    return [item["item_id"] for item in answer["items"]]


def test_it_also_serves_without_haproxy(folder: Path) -> None:
    with serving(folder, "--no-haproxy", "--no-throughput") as (url, _):
        answer = httpx.post(f"{url}/recommend", json={"user_id": 1000}, timeout=BOUND).json()
        assert answer == recommend(open_bundle(folder).recommender, [Request(user_id=1000)])[0]


def test_a_port_in_use_is_said_at_once(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(folder, "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said
    assert "choose another port with --port" in said


def test_a_bundle_that_cannot_be_opened_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    assert "is not a bundle" in refused(tmp_path, "--port", free_ports(1)[0])
    assert "no bundle at" in refused(tmp_path / "absent", "--port", free_ports(1)[0])

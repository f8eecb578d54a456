"""A service as its operators have it: TLS, keys, an access log, metrics, and the page."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from cluster.ports import free_ports
from serve.keys import digest, read, write
from serve.telemetry import GAUGES
from tests.browser import Browser
from tests.operators import ADMIN, LENT, OLD, READ, SLOW, Service, operated
from tests.waiting import BOUND, wait_until
from train.recommender.answers import recommend
from train.recommender.requests import Request


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with operated(tmp_path_factory.mktemp("operators")) as found:
        yield found


def test_an_attacker_gets_nothing(service: Service) -> None:
    for key in (None, "x", digest(READ), f"{READ}, {READ}", READ.upper(), "shop"):
        with service.client(key) as client:
            for method, path in (("POST", "/recommend"), ("GET", "/bundle"), ("GET", "/docs")):
                answer = client.request(method, path, json={"k": 1})
                assert answer.status_code == 401, (key, path)
    with service.client(OLD) as client:
        refused = client.post("/recommend", json={})
        assert refused.status_code == 401 and "has expired" in refused.json()["detail"]
        assert refused.headers["www-authenticate"] == "Bearer"
    with service.client(None) as client:
        assert client.get("/healthz").json()["status"] == "ready"
        both = {"authorization": f"Bearer {READ}", "x-api-key": ADMIN}
        assert client.get("/bundle", headers=both).status_code == 401
        wrong = {
            client.post("/recommend", headers={"x-api-key": f"{i}"}).status_code for i in range(500)
        }
        assert wrong == {401}


def test_a_key_may_do_what_its_scope_says(service: Service) -> None:
    with service.client() as client:
        assert client.post("/recommend", json={"user_id": 1000}).status_code == 200
        told = client.get("/bundle").json()
        assert set(told) == {"version", "format", "created", "topology"}
        assert client.post("/recommend", json={"trace": True}).status_code == 403
        hidden = {"requests": [{}, {"trace": True}]}
        assert client.post("/recommend/batch", json=hidden).status_code == 403
        for path in ("/page/live", "/page/items?text=1", "/page/user?user_id=1000"):
            assert client.get(path).status_code == 403
    with service.client(ADMIN) as client:
        assert "config" in client.get("/bundle").json()
        traced = client.post("/recommend", json={"user_id": 1000, "k": 3, "trace": True}).json()
        assert traced["trace"]["asks"]["known_user"] is True
        both = {"requests": [{"user_id": 1000, "k": 3}, {"user_id": 1000, "k": 3, "trace": True}]}
        plain, also = client.post("/recommend/batch", json=both).json()["answers"]
        assert "trace" not in plain and also["trace"]["asks"] == traced["trace"]["asks"]
        answered = [item["item_id"] for item in traced["items"]]
        assert [item["item_id"] for item in traced["trace"]["candidates"]["first"]][:3] == answered


def test_a_key_has_its_rate_and_its_end(service: Service) -> None:
    with service.client(SLOW) as client:
        found = Counter(client.post("/recommend", json={}).status_code for _ in range(40))
        assert set(found) == {200, 429}
        refused = client.post("/recommend", json={})
        while refused.status_code == 200:
            refused = client.post("/recommend", json={})
        assert refused.headers["retry-after"] == "1"
    with service.client(LENT) as client:
        assert client.post("/recommend", json={}).status_code == 200
        place = service.folder / "keys.json"
        write(place, [key for key in read(place) if key.name != "lent"])
        wait_until(lambda: client.post("/recommend", json={}).status_code == 401, "its end")
    with service.client() as client:
        assert client.post("/recommend", json={}).status_code == 200


def test_only_tls_of_today_is_spoken(service: Service) -> None:
    host, port = service.url.removeprefix("https://").split(":")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    plain = socket.create_connection((host, int(port)), BOUND)
    with plain, pytest.raises(OSError), old.wrap_socket(plain):
        pass
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{host}:{port}/healthz", timeout=BOUND)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/healthz", timeout=BOUND)  # it trusts no such certificate


def raw(service: Service, text: str) -> bytes:
    """Return what is answered to bytes over TLS, until the other side closes."""
    host, port = service.url.removeprefix("https://").split(":")
    trusted = ssl.create_default_context(cafile=str(service.certificate))
    with (
        socket.create_connection((host, int(port)), BOUND) as plain,
        trusted.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(text.replace("\n", "\r\n").encode())
        got = b""
        while part := secured.recv(2**16):
            got += part
        return got


@pytest.mark.parametrize(
    "smuggled",
    [
        "Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\nGET /bundle HTTP/1.1\nHost: x\n\n",
        "Content-Length: 0\nContent-Length: 40\n\nGET /bundle HTTP/1.1\nHost: x\n\n",
        "Transfer-Encoding: xchunked\n\n0\n\nGET /bundle HTTP/1.1\nHost: x\n\n",
        "X-Key : 1\n\n",
        "Authorization: Bearer x\n Authorization: Bearer y\nContent-Length: 0\n\n",
    ],
)
def test_nothing_is_smuggled_past_the_keys(service: Service, smuggled: str) -> None:
    head = "POST /recommend HTTP/1.1\nHost: x\nConnection: close\n"
    got = raw(service, head + smuggled)
    statuses = [line.split()[1] for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses and set(statuses) <= {b"400", b"401", b"408", b"501"}, got
    assert b"version" not in got


def test_pages_of_named_origins_may_ask(service: Service) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    with service.client(None) as client:
        ours = client.options("/recommend", headers={"origin": "https://shop.example", **asked})
        assert ours.status_code == 200
        assert ours.headers["access-control-allow-origin"] == "https://shop.example"
        theirs = client.options("/recommend", headers={"origin": "https://evil.example", **asked})
        assert theirs.status_code == 400 and "access-control-allow-origin" not in theirs.headers
    with service.client() as client:
        origin = {"origin": "https://shop.example"}
        answer = client.post("/recommend", json={}, headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_the_log_has_every_request_and_no_user(service: Service) -> None:
    with service.client() as client:

        def ask(number: int, method: str, path: str, body: Any = None) -> Any:
            own = {"x-request-id": f"mine-{number}"}
            return client.request(method, path, json=body, headers=own).json()

        bodies: list[Any] = [{"user_id": 1000 + i, "k": 3} for i in range(5)]
        answers = [ask(at, "POST", "/recommend", body) for at, body in enumerate(bodies)]
        ask(5, "POST", "/recommend", {"k": 0})
        ask(6, "POST", "/recommend/batch", {"requests": bodies[:2]})
        ask(7, "GET", "/bundle")

    def mine() -> list[dict[str, Any]]:
        found = [line for line in service.logged() if line["request_id"].startswith("mine-")]
        return sorted(found, key=lambda line: str(line["request_id"]))

    wait_until(lambda: len(mine()) == 8, "eight lines")
    lines = mine()
    for line, answer in zip(lines, answers, strict=False):
        assert line["items"] == [item["item_id"] for item in answer["items"]]
        assert (line["key"], line["status"], line["source"]) == ("shop", 200, "personal")
        assert line["bundle"] == answer["bundle"]
        assert {"wait", "retrieve", "rank", "answer"} == set(line["times"])
    assert len({line["user"] for line in lines[:5]}) == 5
    assert lines[5]["status"] == 422 and "than or equal to 1" in lines[5]["detail"]
    assert [one["user"] for one in lines[6]["answers"]] == [one["user"] for one in lines[:2]]
    assert lines[7]["path"] == "/bundle"
    assert "1001" not in json.dumps([line["user"] for line in lines[:5]])


def test_a_client_is_generated_of_the_documentation(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        (tmp_path / "openapi.json").write_text(client.get("/openapi.json").text)
    (tmp_path / "config.yml").write_text("post_hooks: []\npackage_name_override: shop_client\n")
    words = ["generate", "--path", "openapi.json", "--config", "config.yml", "--meta", "none"]
    generator = ["-m", "openapi_python_client", *words, "--output-path", "shop_client"]
    subprocess.run([sys.executable, *generator], cwd=tmp_path, check=True, capture_output=True)
    asked = subprocess.run(
        [sys.executable, "-c", GENERATED, service.url, READ, str(service.certificate)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    [answer] = recommend(service.recommender, [Request(user_id=1003, k=4, max_per={"colour": 1})])
    assert json.loads(asked.stdout) == [item["item_id"] for item in answer["items"]]


# What somebody writes who has the generated client.
GENERATED = """
import json, ssl, sys
from shop_client import AuthenticatedClient
from shop_client.api.default import recommend_recommend_post as recommend
from shop_client.models import Query, QueryMaxPer

url, key, certificate = sys.argv[1:]
trusted = ssl.create_default_context(cafile=certificate)
client = AuthenticatedClient(base_url=url, token=key, verify_ssl=trusted)
query = Query(user_id=1003, k=4, max_per=QueryMaxPer.from_dict({"colour": 1}))
answer = recommend.sync(client=client, body=query)
print(json.dumps([item.item_id for item in answer.items]))
"""


def sums(service: Service) -> Counter[tuple[str, ...]]:
    """Return our counters as Prometheus would read them, summed over replicas."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in httpx.get(service.metrics, timeout=BOUND).text.splitlines():
        if line.startswith("ray_raytower_") and "_total{" in line:
            name, _, rest = line.partition("{")
            labels, _, value = rest.rpartition("} ")
            own = dict(part.split("=", 1) for part in labels.split(","))
            kept = [own[key].strip('"') for key in ("source", "path", "status") if key in own]
            found[name.removeprefix("ray_raytower_"), *kept] += int(float(value))
    return found


def settled(service: Service) -> Counter[tuple[str, ...]]:
    """Return our counters once what was asked before has come to them."""
    found = [sums(service)]

    def same() -> bool:
        time.sleep(3)
        found.append(sums(service))
        return found[-1] == found[-2]

    wait_until(same, "counters that stand still")
    return found[-1]


def asked_of(service: Service) -> dict[tuple[str, ...], float]:
    """Send requests of each kind, and return by how much counters have to rise."""
    with service.client() as client:
        for user in range(30):
            client.post("/recommend", json={"user_id": 1000 + user, "k": 4})
        for _ in range(20):
            client.post("/recommend", json={"history": [7, 8, "x"], "k": 2})
        for _ in range(10):
            client.post("/recommend", json={"k": 1})
        for _ in range(5):
            client.post("/recommend", json={"k": 0})
        for _ in range(3):
            client.post("/recommend", json={"filter": {"price": {"lt": 10}}, "k": 300})
    return {
        ("answers_total", "personal"): 30,
        ("answers_total", "history"): 20,
        ("answers_total", "popular"): 13,
        ("responses_total", "/recommend", "200"): 63,
        ("responses_total", "/recommend", "422"): 5,
        ("unknown_ids_total",): 20,
        ("short_answers_total",): 3,
        ("filtered_total",): 3,
    }


def test_what_was_sent_is_what_is_counted(service: Service) -> None:
    before = settled(service)
    expected = asked_of(service)

    def told() -> bool:
        now = sums(service)
        return all(now[key] - before[key] == rise for key, rise in expected.items())

    wait_until(told, f"a rise by {expected}")
    text = httpx.get(service.metrics, timeout=BOUND).text
    assert f'version="{service.recommender.version}"' in text
    assert {name for name in GAUGES if f"ray_{name}{{" not in text} <= {"raytower_data_as_of"}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus here")
def test_prometheus_returns_the_numbers_that_were_sent(service: Service, tmp_path: Path) -> None:
    target = service.metrics.split("/")[2]
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n  - job_name: raytower\n    scrape_interval: 1s\n"
        f"    static_configs: [{{targets: ['{target}']}}]\n"
    )
    port = free_ports(1)[0]
    words = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    server = subprocess.Popen(
        [*words, "--storage.tsdb.path=tsdb"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}/api/v1/query"

        def value(query: str) -> float | None:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(url, params={"query": query}, timeout=BOUND)
                found = answer.json()["data"]["result"] if answer.status_code == 200 else []
                return float(found[0]["value"][1]) if found else None
            return None

        query = "sum(ray_raytower_answers_total{source='%s'})"
        wait_until(lambda: value(query % "personal") is not None, "the first scrape")
        settled(service)
        before = {source: value(query % source) or 0 for source in ("personal", "history")}
        asked_of(service)
        for source, rise in (("personal", 30), ("history", 20)):
            text = query % source
            wait_until(lambda t=text, n=before[source] + rise: value(t) == n, text)  # type: ignore[misc]
    finally:
        server.terminate()
        server.wait(BOUND)


def test_the_page_asks_and_shows(service: Service, browser: Browser, tmp_path: Path) -> None:
    browser.emulate()
    met = browser.open(f"{service.url}/", shows="#locked:not([hidden])")
    assert "config" not in met.text
    browser.type("#key", ADMIN)
    browser.wait("return document.querySelectorAll('#live dd').length")
    browser.type("#user", "1003")
    browser.type("#diversity", Keys.ARROW_RIGHT)
    browser.type("#search", "title 12")
    browser.wait("return document.querySelectorAll('#found button').length")
    # By the keyboard alone: to the first item that was found, to add it, and to ask.
    browser.press(Keys.TAB)
    browser.press(Keys.ENTER)
    browser.wait("return document.querySelectorAll('#given li').length")
    browser.type("#user", f"1003{Keys.ENTER}")
    browser.wait("return document.querySelectorAll('#answer li').length === 10")
    given = browser.look("return document.querySelector('#given li').firstChild.textContent.trim()")
    item = {name: at for at, name in enumerate(service.recommender.titles.to_pylist())}[given]
    diversity = float(browser.look("return document.querySelector('#diversity').value"))
    assert diversity > 0
    asked = Request(user_id=1003, history=[item + 5], k=10, diversity=diversity)
    [answer] = recommend(service.recommender, [asked])
    names = [item.get("title", f"item {item['item_id']}") for item in answer["items"]]
    shown = browser.look(
        "return [...document.querySelectorAll('#answer li button')].map(b => b.textContent)"
    )
    assert shown == names
    assert browser.look("return document.querySelector('#history li').textContent") == given
    browser.look("document.querySelector('#answer li button').click()")
    assert browser.look("return document.activeElement.getAttribute('aria-current')") == "true"
    browser.type("#filter", "{")
    browser.type("#user", f"1003{Keys.ENTER}")
    assert "filter: " in browser.wait("return document.querySelector('#problem').textContent")
    browser.type("#filter", '{"price": {"lt": 20}}')
    browser.type("#other", ".")
    browser.type("#user", f"1004{Keys.ENTER}")
    browser.wait("return document.querySelectorAll('#beside-answer li').length === 10")
    pairs = "['answer', 'beside-answer'].map(id => document.getElementById(id).children.length)"
    assert browser.look(f"return {pairs}") == [10, 10]
    for dark in (False, True):
        for width in (1280, 390):
            browser.emulate(dark=dark, width=width)
            assert browser.look(WIDER) <= 0
            assert browser.faults() == []
            browser.picture(str(tmp_path / f"{width}-{dark}.png"))
    browser.emulate()
    assert [line for line in browser.errors() if "401" not in line and "403" not in line] == []


WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"

"""API keys: their file, who is let in, and how often."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serve import keys
from serve.access import Access, Asker, Refusal
from serve.access_log import hashed
from serve.config import Process, ServeArgs, checked
from serve.keys import Key, KeyRing, digest, find, read, write


def request(**headers: str) -> dict[str, Any]:
    found = [(name.replace("_", "-").encode(), of.encode()) for name, of in headers.items()]
    return {"headers": [(b"host", b"x"), *found]}


def key(name: str, secret: str, **more: Any) -> Key:
    return Key.model_validate({"name": name, "sha256": digest(secret), **more})


def process(**settings: Any) -> Process:
    return Process.model_validate({"address": "local", **settings})


def settings(**settings: Any) -> ServeArgs:
    return ServeArgs.model_validate({"bundle": "x", **settings})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ended = datetime.now(UTC) - timedelta(seconds=1)
    place = tmp_path / "keys.json"
    several = [
        key("shop", "s3cret"),
        key("boss", "admin", scope="admin"),
        key("old", "expired", expires=ended),
        key("slow", "slow", rate=2.0),
    ]
    write(place, several)
    return place


def test_the_command_makes_lists_and_removes_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert keys.main(["add", "shop", "--rate", "5", "--expires", "2031-01-02T03:04:05Z"]) == 0
    secret = capsys.readouterr().out.strip()
    assert secret.startswith("rt_") and len(secret) > 40
    assert keys.main(["add", "boss", "--scope", "admin"]) == 0
    text = Path("keys.json").read_text()
    assert secret not in text and stat.S_IMODE(Path("keys.json").stat().st_mode) == 0o600
    found = find(read("keys.json"), secret)
    assert found is not None and (found.name, found.scope, found.rate) == ("shop", "read", 5.0)
    capsys.readouterr()
    keys.main(["list"])
    assert capsys.readouterr().out.splitlines() == [
        "shop: read, 5 a second, until 2031-01-02 03:04 UTC",
        "boss: admin, no limit, for ever",
    ]
    with pytest.raises(ValueError, match="has a key of 'shop'; remove it first"):
        keys.main(["add", "shop"])
    keys.main(["remove", "shop"])
    assert [one.name for one in read("keys.json")] == ["boss"]
    with pytest.raises(ValueError, match="has no key of 'shop'; it has: boss"):
        keys.main(["remove", "shop"])
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "a b"], "name: String should match"),
        (["add", "a", "--rate", "0"], "rate: Input should be greater than 0"),
        (["add", "a", "--expires", "tomorrow"], "expires: "),
        (["add", "a", "--expires", "2031-01-01T00:00:00"], "expires: .* timezone"),
    ],
)
def test_a_key_that_cannot_be_is_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        keys.main(words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2, "keys": []}', '{"keys": [{"name": "a"}]}', '{"x": 1}']
)
def test_what_is_no_file_of_keys_is_refused(text: str, tmp_path: Path) -> None:
    place = tmp_path / "keys.json"
    with pytest.raises(ValueError, match=r"cannot read the keys in .*keys add NAME makes them"):
        read(place)
    place.write_text(text)
    with pytest.raises(ValueError, match="is no file of keys: "):
        read(place)


@pytest.mark.parametrize("name", ["authorization", "x_api_key"])
def test_a_key_opens_what_it_may(name: str, file: Path) -> None:
    door = Access(str(file), "admin", 1.0)
    prefix = "Bearer " if name == "authorization" else ""
    asked = door.ask(request(**{name: f"{prefix}s3cret"}))
    assert asked == Asker("shop", "read")
    assert not asked.may("admin") and not asked.may("write") and asked.may("read")
    boss = door.ask(request(**{name: f"{prefix}admin"}))
    assert isinstance(boss, Asker) and all(map(boss.may, keys.SCOPES))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "a key is needed"),
        ({"x_api_key": ""}, "not known"),
        ({"x_api_key": "s3creT"}, "not known"),
        ({"x_api_key": digest("s3cret")}, "not known"),
        ({"x_api_key": "shop"}, "not known"),
        ({"x_api_key": "Bearer s3cret"}, "not known"),
        ({"x_api_key": "s3cret\x00"}, "not known"),
        ({"authorization": "s3cret"}, "expected the header 'Authorization: Bearer KEY'"),
        ({"authorization": "Basic s3cret"}, "expected the header"),
        ({"authorization": "Bearer"}, "expected the header"),
        ({"x_api_key": "s3cret", "authorization": "Bearer s3cret"}, "got several"),
        ({"x_api_key": "expired"}, "expired"),
    ],
)
def test_all_else_is_shut_out(headers: dict[str, str], said: str, file: Path) -> None:
    refusal = Access(str(file), "admin", 1.0).ask(request(**headers))
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401 and said in refusal.detail
    assert (b"www-authenticate", b"Bearer") in refusal.headers
    assert "shop" not in refusal.detail


def test_without_a_file_everybody_is_let_in_and_no_further() -> None:
    assert Access(None, "read", 1.0).ask(request()) == Asker("-", "read")
    assert Access(None, "admin", 1.0).ask(request()) == Asker("-", "admin")


def test_a_rate_is_shared_by_the_replicas(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    door = Access(str(file), "read", 0.5)  # of 2 a second
    monkeypatch.setattr("serve.access.time.monotonic", lambda: now[0])

    def admitted(times: int) -> int:
        asked = [door.ask(request(x_api_key="slow")) for _ in range(times)]
        refused = [one for one in asked if isinstance(one, Refusal)]
        assert all(one.status == 429 and one.headers[0][0] == b"retry-after" for one in refused)
        return times - len(refused)

    assert admitted(5) == 1
    total = 0
    for _ in range(100):
        now[0] += 0.1
        total += admitted(3)
    assert total in (9, 10)
    now[0] += 3600
    assert admitted(10) == 1  # what was not used does not come together
    assert all(isinstance(door.ask(request(x_api_key="s3cret")), Asker) for _ in range(100))


def test_the_file_is_read_anew(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(str(file))
    monkeypatch.setattr(keys, "LOOK", -1.0)
    assert ring.find("s3cret") is not None and ring.find("new") is None
    write(file, [key("new", "new")])
    assert ring.find("s3cret") is None and ring.find("new") is not None
    # A mistake neither opens nor shuts the door.
    file.write_text("{")
    assert ring.find("new") is not None
    assert "the keys stay as they were" in caplog.text
    file.unlink()
    assert ring.find("new") is not None


def test_users_are_hashed_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTOWER_LOG_KEY", "a")
    one = hashed(7)
    assert one == hashed(7) != hashed("7") and hashed(None) is None
    monkeypatch.setenv("RAYTOWER_LOG_KEY", "b")
    assert hashed(7) != one


@pytest.mark.parametrize(
    ("given", "args", "said"),
    [
        ({"host": "0.0.0.0"}, {}, "--host 0.0.0.0 is open to the network: make keys"),
        ({"host": "::"}, {}, "is open to the network"),
        ({"host": "0.0.0.0", "no_keys": True}, {"keys": "k"}, "expected one of them"),
        ({"tls": "x.pem", "haproxy": False}, {}, "--tls is HAProxy's"),
        ({"rate": 5, "address": "10.0.0.1:6379"}, {}, "RAYTOWER_HTTP_RATE"),
        ({"tls": __file__}, {}, "expected a PEM file with a certificate and its key"),
        ({"tls": "/no/such.pem"}, {}, "/no/such.pem: .*No such file"),
    ],
)
def test_what_would_be_open_to_strangers_is_refused(
    given: dict[str, Any], args: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        checked(process(**given), settings(**args))


def test_who_is_on_loopback_is_who_started_it() -> None:
    assert settings().strangers == "read"
    assert checked(process(), settings()).strangers == "admin"
    assert checked(process(address="10.0.0.1:6379"), settings()).strangers == "read"
    public = process(host="0.0.0.0", no_keys=True)
    assert checked(public, settings()).strangers == "read"


def test_no_guess_is_nearer_than_another(file: Path) -> None:
    door = Access(str(file), "read", 1.0)
    asked = {door.ask(request(x_api_key=f"guess-{number}")) for number in range(10_000)}
    assert len(asked) == 1

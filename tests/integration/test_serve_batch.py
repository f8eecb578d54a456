"""`python -m serve batch` on a real Ray: killed, gone on with, and equal to what HTTP answers."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet
import pytest

from tests.bundles import write_bundle
from tests.serving import ROOT, command, family, serving
from tests.waiting import BOUND, wait_until

USERS = 3000
RULES = """
[calm]
filter = { price = { lt = 30 } }
max_per = { colour = 4 }
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundles")
    (place / "rules.toml").write_text(RULES)
    return write_bundle(place, users=USERS, items=400, history=10, trees=200)


@pytest.fixture
def mark() -> Iterator[str]:
    """A mark of all processes of a test, which are ended after it."""
    name = uuid.uuid4().hex
    yield name
    for folder in family(name):
        os.kill(int(folder.name), signal.SIGKILL)


def batch(bundle: Path, out: Path, *flags: object, mark: str = "") -> "subprocess.Popen[str]":
    words = command("batch", bundle, "--out", out, "--address", "local", *flags)
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ | {"RAYTOWER_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def complete(bundle: Path, out: Path, *flags: object, mark: str = "") -> str:
    process = batch(bundle, out, *flags, mark=mark)
    said, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 0, said
    return said


def files(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def test_a_killed_batch_goes_on_and_ends_as_an_unbroken_one(
    bundle: Path, tmp_path: Path, mark: str
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    said = complete(bundle, whole, "--k", 20)
    assert f"60,000 items for 3,000 users: {whole}" in said
    process = batch(bundle, broken, "--k", 20, "--workers", 1, mark=mark)
    wait_until(lambda: list(broken.glob("part-*")), "the first part")
    process.kill()
    process.wait()
    for folder in family(mark):
        os.kill(int(folder.name), signal.SIGKILL)
    there = {file.name: file.stat().st_mtime_ns for file in broken.glob("part-*")}
    assert 0 < len(there) < len(list(whole.glob("part-*")))
    said = complete(bundle, broken, "--k", 20)
    assert f"going on: {len(there)} of" in said
    assert files(broken) == files(whole)
    again = {name: (broken / name).stat().st_mtime_ns for name in there}
    assert again == there
    assert f"{broken} is complete" in complete(bundle, broken, "--k", 20)


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[httpx.Client]:
    rules = ("--scenarios", bundle.parent / "rules.toml")
    with (
        serving(bundle, *rules) as (url, _),
        httpx.Client(base_url=url, timeout=BOUND) as client,
    ):
        yield client


@pytest.mark.parametrize("scenario", [None, "calm"])
def test_each_user_gets_what_http_answers(
    bundle: Path, client: httpx.Client, tmp_path: Path, scenario: str | None
) -> None:
    rules = ("--scenarios", bundle.parent / "rules.toml", "--scenario", scenario)
    more = rules if scenario else ()
    complete(bundle, tmp_path / "out", "--k", 12, "--users", "active:1d", *more)
    table = pyarrow.parquet.read_table(tmp_path / "out")
    users = table["user_id"].unique().to_pylist()
    assert 50 < len(users) < USERS
    rows: dict[int, list[Any]] = {user: [] for user in users}
    for row in table.select(["user_id", "item_id", "score", "source"]).to_pylist():
        rows[row.pop("user_id")].append(row)
    # No more at a time than a replica takes however long they wait, and time for all of them.
    every: dict[str, Any] = {"k": 12, "scenario": scenario, "timeout_ms": 60_000}
    for at in range(0, len(users), 50):
        part = users[at : at + 50]
        asked = [{"user_id": user, **every} for user in part]
        answer = client.post("/recommend/batch", json={"requests": asked}).json()
        for user, told in zip(part, answer["answers"], strict=True):
            wanted = [
                {"item_id": of["item_id"], "score": of["score"], "source": told["source"]}
                for of in told["items"]
            ]
            assert rows[user] == wanted


def test_a_worker_that_dies_is_replaced(bundle: Path, tmp_path: Path, mark: str) -> None:
    out = tmp_path / "out"
    process = batch(bundle, out, "--k", 20, "--workers", 1, mark=mark)
    wait_until(lambda: list(out.glob("part-*")), "the first part")
    workers = [
        int(folder.name)
        for folder in family(mark)
        if b"MapWorker" in (folder / "cmdline").read_bytes()
    ]
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    said, _ = process.communicate(timeout=BOUND)
    assert workers and process.returncode == 0, said
    assert len(pyarrow.parquet.read_table(out)) == 20 * USERS


def test_the_help_names_every_setting() -> None:
    words = [sys.executable, "-m", "serve", "batch", "--help"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=BOUND).stdout
    for flag in ("--out", "--users", "--scenario", "--explain", "--shape", "--database"):
        assert flag in said

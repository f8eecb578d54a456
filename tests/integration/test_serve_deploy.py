"""`serve deploy` and `serve run`, Ray's own commands, on a head of `python -m cluster start`."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster.ports import free_ports
from tests.bundles import write_bundle
from tests.waiting import BOUND, PATIENCE, wait_until
from train.bundle.bundle import open_bundle
from train.recommender.answers import recommend
from train.recommender.requests import Request

ROOT = Path(__file__).parents[2]
SERVE = (sys.executable, "-m", "ray.serve.scripts")


def run(*words: str, env: dict[str, str], code: int = 0) -> str:
    done = subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=BOUND
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shell() -> Iterator[dict[str, str]]:
    """The environment of a shell that did what `python -m cluster start` told it to."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        token = Path(folder) / "token"
        token.write_text("t" * 64)
        env = {name: os.environ[name] for name in ("PATH", "HOME", *PATIENCE)}
        env |= {"RAYTOWER_RAY_DIR": folder, "RAY_AUTH_TOKEN_PATH": str(token)}
        env["RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"] = "1"
        cluster = (sys.executable, "-m", "cluster")
        said = run(*cluster, "start", "--port=0", "--dashboard-port=0", "--num-cpus=2", env=env)
        settings = re.search(r"export (.*)", said)
        assert settings
        yield env | dict(word.split("=", 1) for word in settings[1].split())
        run(*cluster, "stop", env=env)


@pytest.fixture
def deployment(shell: dict[str, str], tmp_path: Path) -> Iterator["Deployment"]:
    deployment = Deployment(shell, tmp_path, free_ports(1)[0])
    yield deployment
    run(*SERVE, "shutdown", "-y", *deployment.api, env=shell)


@dataclass(frozen=True)
class Deployment:
    """Deploys the shipped definition to a port of its own."""

    shell: dict[str, str]
    folder: Path
    port: int

    @property
    def api(self) -> tuple[str, str]:
        return "-a", self.shell["RAY_API_SERVER_ADDRESS"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, **args: Any) -> None:
        definition = yaml.safe_load((ROOT / "serve" / "serve.yaml").read_text())
        definition["http_options"]["port"] = self.port
        application = definition["applications"][0]
        application["runtime_env"]["working_dir"] = f"file://{code(self.folder)}"
        application["args"] |= {"replicas": 1, **args}
        (self.folder / "serve.yaml").write_text(yaml.safe_dump(definition))
        run(*SERVE, "deploy", *self.api, str(self.folder / "serve.yaml"), env=self.shell)

    def ready(self, version: str) -> bool:
        try:
            answer = httpx.get(f"{self.url}/healthz", timeout=30)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json()["bundle"] == version


def code(folder: Path) -> Path:
    path = folder / "code.zip"
    if not path.exists():
        with zipfile.ZipFile(path, "w") as archive:
            for package in ("cluster", "train", "serve"):
                for file in (ROOT / package).rglob("*.*"):
                    if "__pycache__" not in file.parts:
                        archive.write(file, file.relative_to(ROOT))
    return path


def test_the_shipped_definition_deploys(deployment: Deployment, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "run" / "bundles", users=30, items=60)
    deployment.deploy(bundle=str(bundle))
    wait_until(lambda: deployment.ready(bundle.name), f"an answer at {deployment.url}")
    answer = httpx.post(f"{deployment.url}/recommend", json={"user_id": 1000}, timeout=BOUND)
    assert answer.json() == recommend(open_bundle(bundle).recommender, [Request(user_id=1000)])[0]


@pytest.mark.parametrize("topology", ["fused", "split"])
def test_each_answer_of_an_update_is_that_of_the_version_it_names(
    deployment: Deployment, tmp_path: Path, topology: str
) -> None:
    # Other sizes and other vectors: what is a position of one is another item, or none, of another.
    folders = [
        write_bundle(tmp_path / str(seed), users=30, items=items, seed=seed)
        for seed, items in enumerate((60, 90))
    ]
    expected = {
        folder.name: recommend(open_bundle(folder).recommender, ASKED) for folder in folders
    }
    given = {"topology": topology, "replicas": REPLICAS}
    deployment.deploy(bundle=str(folders[0]), **given)
    wait_until(lambda: deployment.ready(folders[0].name), folders[0].name)
    seen: Counter[str] = Counter()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_on, deployment.url, expected, seen, stop)
        try:
            wait_until(lambda: asking.done() or seen.total() >= 20, "answers of the first")
            # There and back, until there were as many requests as were asked for.
            for folder in itertools.cycle([folders[1], folders[0]]):
                before = seen[folder.name]
                deployment.deploy(bundle=str(folder), **given)
                wait_until(lambda of=folder: deployment.ready(of.name), folder.name)  # type: ignore[misc]
                wait_until(
                    lambda of=folder, n=before: asking.done() or seen[of.name] >= n + 50,  # type: ignore[misc]
                    "answers of the next",
                )
                if asking.done() or seen.total() >= REQUESTS:
                    break
        finally:
            stop.set()
        asking.result()
    print(f"{topology}: {dict(seen)}")


# Of the updates; more: `RAYTOWER_ROLLING=10000 pytest -s -k update` on this file, and with two
# replicas, of which one always answers.
REQUESTS = int(os.environ.get("RAYTOWER_ROLLING", "70"))
REPLICAS = 1 if REQUESTS < 1000 else 2
# Milliseconds after which an answer is a lesser one: no busy machine needs as many.
PATIENT = 60_000
ASKED = [Request(user_id=1000 + user, k=5) for user in range(30)]


def ask_on(
    url: str, expected: Mapping[str, Any], seen: Counter[str], stop: threading.Event
) -> None:
    """Ask until told to stop, and count answers by version; each has to be right."""
    with httpx.Client(base_url=url, timeout=BOUND) as client:
        for row in itertools.cycle(range(len(ASKED))):
            if stop.wait(0.02):
                return
            body = {"user_id": 1000 + row, "k": 5, "timeout_ms": PATIENT}
            answer = client.post("/recommend", json=body)
            if (
                answer.status_code == 503 and REPLICAS == 1
            ):  # a single replica is stopped before the next one is up
                continue
            assert answer.status_code == 200, answer.text
            got = answer.json()
            if "degraded" in got and REPLICAS == 1:  # so is that of stage 2
                continue
            assert_equal(got, expected[got["bundle"]][row])
            seen[got["bundle"]] += 1


def assert_equal(got: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Equal but for the last bits of scores, which the size of a batch decides."""
    ids = [[item["item_id"] for item in answer["items"]] for answer in (got, right)]
    assert ids[0] == ids[1]
    scores = [[item["score"] for item in answer["items"]] for answer in (got, right)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_replica_that_starts_later_has_the_version_of_the_others(
    deployment: Deployment, tmp_path: Path
) -> None:
    home = tmp_path / "run"
    first = write_bundle(home / "bundles", users=30, items=60).name
    deployment.deploy(bundle=str(home), topology="split")
    wait_until(lambda: deployment.ready(first), first)
    write_bundle(home / "bundles", users=30, items=90, seed=1)
    before = replicas()
    for process in before:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: len(replicas() - before) == 2, "two new replicas")
    wait_until(lambda: deployment.ready(first), "the first version again")


def replicas() -> set[int]:
    """Return the processes of this module's Ray that are replicas of the application."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::ServeReplica:raytower" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def test_serve_run_refuses_settings_that_there_are_not(
    shell: dict[str, str], tmp_path: Path
) -> None:
    words = ("run", "serve.app:build", f"bundle={tmp_path}", "topolgy=fused")
    said = run(*SERVE, *words, env=shell, code=1)
    assert "topolgy" in said
    assert "Extra inputs are not permitted" in said

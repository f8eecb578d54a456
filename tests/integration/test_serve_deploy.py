"""`serve deploy` and `serve run`, Ray's own commands, on a head of `python -m cluster start`."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

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


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_shipped_definition_deploys(shell: dict[str, str], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "run" / "bundles", users=30, items=60)
    code = tmp_path / "code.zip"
    with zipfile.ZipFile(code, "w") as archive:
        for package in ("cluster", "train", "serve"):
            for path in (ROOT / package).rglob("*.py"):
                archive.write(path, path.relative_to(ROOT))
    definition = yaml.safe_load((ROOT / "serve" / "serve.yaml").read_text())
    port = definition["http_options"]["port"] = free_ports(1)[0]
    application = definition["applications"][0]
    application["runtime_env"]["working_dir"] = f"file://{code}"
    application["args"] |= {"bundle": str(bundle), "replicas": 1}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(definition))
    address = ("-a", shell["RAY_API_SERVER_ADDRESS"])
    run(*SERVE, "deploy", *address, str(tmp_path / "serve.yaml"), env=shell)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url), f"an answer at {url}")
        answer = httpx.post(f"{url}/recommend", json={"user_id": 1000}, timeout=BOUND).json()
        assert answer == recommend(open_bundle(bundle).recommender, [Request(user_id=1000)])[0]
    finally:
        run(*SERVE, "shutdown", "-y", *address, env=shell)


def test_serve_run_refuses_settings_that_there_are_not(
    shell: dict[str, str], tmp_path: Path
) -> None:
    words = ("run", "serve.app:build", f"bundle={tmp_path}", "topolgy=fused")
    said = run(*SERVE, *words, env=shell, code=1)
    assert "topolgy" in said
    assert "Extra inputs are not permitted" in said

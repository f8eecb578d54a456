"""The README's commands, run in order in a copy of the checkout, on generated files."""

import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest

from cluster.ports import free_ports
from tests.mlflow_server import answering

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## ", re.MULTILINE)
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows or would, with this environment as `.venv` and a shop's files."""
    folder = tmp_path_factory.mktemp("readme") / "raytower"
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(lambda n: (ROOT / n).is_file(), listed.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    shop(folder)
    return folder


def shop(folder: Path, customers: int = 150, skus: int = 60, events: int = 4000) -> None:
    """Write events of customers who each prefer one of three brands, over 100 days."""
    rng = np.random.default_rng(0)
    brand = rng.integers(0, 3, skus)
    customer = rng.integers(1, customers + 1, events)
    liked = rng.random((events, skus)) * np.where(brand == customer[:, None] % 3, 3, 1)
    table = {
        "customer": customer,
        "sku": 10 + liked.argmax(axis=1),
        "time": 1_700_000_000 + np.sort(rng.integers(0, 100 * 86_400, events)),
    }
    csv.write_csv(pa.table(table), folder / "events.csv")
    items = {
        "sku": np.arange(10, 10 + skus),
        "label": [f"Thing {n}" for n in range(skus)],
        "brand": [f"brand {b}" for b in brand],
        "tags": [f"t{n % 4}|t{n % 7}" for n in range(skus)],
        "price": rng.random(skus).round(2) * 100,
    }
    csv.write_csv(pa.table(items), folder / "items.csv")


def sections() -> list[list[tuple[str, str]]]:
    """The code blocks of each section, as (language, text)."""
    return [BLOCK.findall(part) for part in HEADING.split(README) if BLOCK.search(part)]


@pytest.mark.parametrize("blocks", sections(), ids=lambda b: b[0][1].split("\n")[0][:30])
def test_commands_do_what_they_say(blocks: list[tuple[str, str]], checkout: Path) -> None:
    port, server, started = free_ports(1)[0], None, ExitStack()
    try:
        for language, text in blocks:
            if language == "toml":
                name = text.split("\n", 1)[0].removeprefix("# ")
                (checkout / name).write_text(text, encoding="utf-8")
                continue
            for command in text.strip().splitlines():
                if "models serve" in command:
                    started.enter_context(answering(adapted(command, port), port, checkout))
                elif "-m serve" in command:
                    server = serve(f"{command} --port {port}", checkout)
                else:
                    execute(adapted(command, port), checkout)
    finally:
        started.close()
        if server is not None:
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == 0


def adapted(command: str, port: int) -> str:
    """Leave the ports that others may use alone, and only show what `make` would run."""
    command = re.sub(r"^make", "make -n", command.replace("curl -s", "curl -sS --fail-with-body"))
    command = command.replace("cluster start", "cluster start --port 0 --dashboard-port 0")
    command = command.replace("-p 5000", f"-p {port}")
    return re.sub("localhost:[58]000", f"localhost:{port}", command)


def execute(command: str, checkout: Path) -> None:
    done = subprocess.run(["bash", "-c", command], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def serve(command: str, checkout: Path) -> subprocess.Popen[str]:
    words = ["bash", "-c", f"exec {command} --address local"]
    server = subprocess.Popen(words, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = next((said for said in server.stdout if "serving bundle" in said), "")
    assert line, server.wait()
    url = line.split(" on ")[1].split(" ")[0]
    with urllib.request.urlopen(f"{url}/healthz", timeout=10) as response:
        assert response.status == 200
    return server


def test_every_file_of_the_layout_is_there_and_every_file_is_in_it() -> None:
    named = set(re.findall(r"^\| `([a-z_/]+\.[A-Za-z]+)`", README, re.MULTILINE))
    listed = {
        f"{package}/{path.name}"
        for package in ("cluster", "train", "tune", "serve")
        for path in (ROOT / package).iterdir()
        if path.is_file() and path.name not in ("__init__.py",)
    }
    assert named == listed

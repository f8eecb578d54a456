"""The commands of README.md and docs/, run as they stand in a copy of the checkout.

A page's sections run in order. A section of the README whose commands a page of docs/ has too runs
there.
"""

import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from cluster.ports import free_ports
from tests.mlflow_server import answering

ROOT = Path(__file__).parents[1]
# Pages with commands, by the module that runs them: modules are spread over processes.
RUN_BY = {
    "test_readme": ("README.md", "docs/data.md", "docs/extending.md"),
    "test_docs_training": ("docs/training.md",),
    "test_docs_tuning": ("docs/tuning.md",),
    "test_docs_http": ("docs/http.md", "docs/batches.md", "docs/monitoring.md"),
    "test_docs_mlflow": ("docs/mlflow.md",),
    "test_docs_operations": ("docs/operations.md",),
}
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## ", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A section of a page with the commands in it."""

    page: str
    title: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.title}"


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, without their fences."""
    return [body for marked, body in BLOCK.findall(text) if marked == language]


def sections(module: str) -> list[Section]:
    """Return the sections with commands that a test module runs."""
    return [found for page in RUN_BY[module] for found in _sections(page)]


def _sections(page: str) -> Iterator[Section]:
    others = [text for other, text in PAGES.items() if page == "README.md" and other != page]
    elsewhere = set(_commands("\n".join(others)))
    for part in HEADING.split(PAGES[page]):
        title, commands = part.split("\n", 1)[0].removeprefix("# "), _commands(part)
        if set(commands) - elsewhere:
            yield Section(page, title, tuple(commands))


def _commands(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.strip().splitlines()]


def copy_checkout(folder: Path) -> Path:
    """Copy what git knows or would, with this environment as `.venv`, a shop and the TOML files."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(lambda n: (ROOT / n).is_file(), listed.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    shop(folder)
    for block in (block for text in PAGES.values() for block in blocks(text, "toml")):
        (folder / block.split("\n", 1)[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    return folder


def shop(folder: Path, customers: int = 120, skus: int = 40, events: int = 2500) -> None:
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


def run(section: Section, checkout: Path) -> None:
    """Run a section's commands in order; its servers answer until it ends."""
    port, metrics = free_ports(2)
    with ExitStack() as started:
        for command in (one.replace("9464", str(metrics)) for one in section.commands):
            if "models serve" in command:
                started.enter_context(answering(_adapted(command, port), port, checkout))
            elif "-m serve" in command and not re.search("serve (keys|batch)", command):
                started.enter_context(_serving(f"{command} --port {port}", checkout))
            else:
                execute(_adapted(command, port), checkout)


def execute(command: str, checkout: Path) -> None:
    """Run one shell command, which has to succeed."""
    done = subprocess.run(["bash", "-c", command], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def _adapted(command: str, port: int) -> str:
    """Leave the ports that others may use alone, and only show what `make` would run."""
    command = re.sub(r"^make", "make -n", command.replace("curl -s", "curl -sS --fail-with-body"))
    command = command.replace("cluster start", "cluster start --port 0 --dashboard-port 0")
    command = command.replace("-p 5000", f"-p {port}")
    return re.sub("localhost:[58]000", f"localhost:{port}", command)


@contextmanager
def _serving(command: str, checkout: Path) -> Iterator[None]:
    words = ["bash", "-c", f"exec {command} --address local"]
    server = subprocess.Popen(words, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        line = next((said for said in server.stdout if "serving bundle" in said), "")
        assert line, server.wait()
        url = line.split(" on ")[1].split(" ")[0]
        with urllib.request.urlopen(f"{url}/healthz") as response:
            assert response.status == 200
        yield
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait()
    assert code == 0

"""`python -m serve` for tests: started, asked, ended, and what it leaves."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cluster.ports import free_ports
from tests.waiting import BOUND, wait_until
from train.bundle.bundle import Bundle

ROOT = Path(__file__).parents[1]


@dataclass
class Server:
    topology: str
    mark: str
    client: httpx.Client
    bundle: Bundle

    def ask(self, **body: Any) -> httpx.Response:
        return self.client.post("/recommend", json=body)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "serve", *map(str, words)]


@contextlib.contextmanager
def serving(folder: Path, *flags: object) -> Iterator[tuple[str, str]]:
    """Start a server; yield its URL and a mark that all its processes have in their environment.

    In the end it has to stop cleanly on Ctrl-C, and to leave no process.
    """
    port, mark = free_ports(1)[0], uuid.uuid4().hex
    words = command(folder, "--port", port, "--replicas", 1, *flags)
    with tempfile.NamedTemporaryFile("w+") as log:
        output = {"stdout": log, "stderr": subprocess.STDOUT}
        environment = os.environ | {"RAYTOWER_TEST": mark}
        process = subprocess.Popen(words, cwd=ROOT, env=environment, **output)  # type: ignore[call-overload]
        said = Path(log.name).read_text
        try:
            wait_until(
                lambda: "serving bundle" in said() or process.poll() is not None, "the server"
            )
            assert process.poll() is None, said()
            yield f"http://127.0.0.1:{port}", mark
        finally:
            process.send_signal(signal.SIGINT)
            ended = process.wait(BOUND)
            assert ended == 0, said()
    wait_until(lambda: not list(family(mark)), "the end of all processes of the server")


def family(mark: str) -> Iterator[Path]:
    """Yield the folders in /proc of the processes with this mark in their environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                yield folder


def refused(*words: object) -> str:
    """Run the command, which has to fail as a user's mistake, and return what it said."""
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=BOUND)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr

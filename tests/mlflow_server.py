"""`mlflow models serve` on a folder, in this environment and on loopback, for tests."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import BOUND, wait_until


@contextmanager
def answering(command: str, port: int, folder: Path) -> Iterator[str]:
    """Yield the URL of a server that a shell command has started in a folder, then stop it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        # MLflow starts uvicorn below it: a group of their own ends together.
        server = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(server, url, folder / "server.log")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(BOUND)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    def answers() -> bool:
        assert server.poll() is None, f"no server at {url}: {log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=30):
                return True
        except OSError:
            return False

    wait_until(answers, f"MLflow's server at {url}")

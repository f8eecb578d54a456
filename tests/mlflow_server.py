"""`mlflow models serve` on a folder, in this environment and on loopback, for tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = 120  # seconds


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
        server.wait(timeout=60)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=10):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no server at {url}: {log.read_text()[-3000:]}")

"""The demo asks a server that serves, whatever else its processes say."""

import subprocess
import sys
from typing import Any

import pytest

from serve import demo

NOISE = "print('(ProxyActor pid=7) Failed to start proxy HTTP server.', flush=True)\n"
READY = "print('serving bundle 7 on http://127.0.0.1:1', flush=True)\nimport signal; signal.pause()"


def _server_that(says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def started(_command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", says], **options)

    monkeypatch.setattr(subprocess, "Popen", started)


def test_a_server_that_ends_has_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    _server_that(NOISE, monkeypatch)
    with (
        pytest.raises(OSError, match="the server ended with 0 before it answered"),
        demo._served("bundle"),
    ):
        pass


def test_it_is_asked_once_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    _server_that(NOISE + READY, monkeypatch)
    with demo._served("bundle") as url:
        assert url.startswith("http://127.0.0.1:")

"""Sessions of Rays that end with their process: private, and swept once it is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import local


def test_sessions_of_processes_that_are_gone_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTOWER_RAY_DIR", str(tmp_path))
    monkeypatch.setattr("atexit.register", lambda *_: None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = local.folder()
    assert folder == tmp_path / "local"
    gone, mine = (folder / f"session_2026_{pid}" for pid in (ended.pid, os.getpid()))
    for session in (gone, mine):
        (session / "logs").mkdir(parents=True)
    local.folder()
    assert list(folder.iterdir()) == [mine]


def test_a_process_cleans_its_own_session_up_and_no_fork_of_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    ended: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    mine, other = (tmp_path / f"session_2026_{pid}" for pid in (os.getpid(), os.getppid()))
    for session in (mine, other):
        session.mkdir()
    local.clean(tmp_path, os.getppid())
    assert not ended
    local.clean(tmp_path, os.getpid())
    assert ended
    assert list(tmp_path.iterdir()) == [other]


def test_haproxys_sockets_have_short_paths_wherever_the_nodes_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTOWER_RAY_DIR", str(tmp_path / ("long" * 20)))
    folder = local.haproxy_folder()
    try:
        # With a user and a process of seven digits.
        spare = 14 - len(f"{os.getuid()}{os.getpid()}")
        assert len(str(folder / ("f" * 56) / "a.sock")) + spare <= 97
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        folder.rmdir()

"""One process at a time writes the files of a folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import lease
from cluster.lease import FILE, check_free, leased
from tests.documents import ROOT

HOLD = """
import sys, time
from cluster.lease import leased
with leased(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lease of a folder in a process of its own."""
    command = [sys.executable, "-c", HOLD, str(home)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_live_holder_is_named_and_a_dead_one_succeeded(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        for take in (leased(str(tmp_path)).__enter__, lambda: check_free(str(tmp_path))):
            with pytest.raises(
                ValueError, match=rf"being written by process {process.pid} on .*UTC"
            ):
                take()
        process.kill()
        process.wait()
    assert (tmp_path / FILE).exists()
    with leased(str(tmp_path)):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_an_error_gives_the_lease_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), leased(str(tmp_path / "new")):
        raise RuntimeError
    assert not (tmp_path / "new" / FILE).exists()


@pytest.mark.parametrize("uri", [False, True], ids=["path", "URI"])
@pytest.mark.parametrize("age", [0, 120])
def test_a_holder_of_another_machine_lives_as_long_as_it_gives_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: bool, age: int
) -> None:
    monkeypatch.setattr(lease, "SETTLED", 0.01)
    home = tmp_path.as_uri() if uri else str(tmp_path)
    other = lease._own() | {"host": "elsewhere", "beat": time.time() - age}
    (tmp_path / FILE).write_text(json.dumps(other))
    if age:
        with leased(home):
            assert json.loads((tmp_path / FILE).read_text())["host"] != "elsewhere"
        assert not (tmp_path / FILE).exists()
    else:
        with pytest.raises(ValueError, match="on elsewhere, since"), leased(home):
            pass


def test_a_number_that_another_process_has_by_now_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(lease._own() | {"begun": "1"}))
    with leased(str(tmp_path)):
        pass


def test_a_lease_is_renewed_and_its_loss_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.02)

    def beat() -> float:
        return float(json.loads((tmp_path / FILE).read_text())["beat"])

    with leased(str(tmp_path)):
        first = beat()
        while beat() == first:
            time.sleep(0.01)
    with pytest.raises(KeyboardInterrupt), leased(str(tmp_path)):
        other = lease._own() | {"host": "elsewhere"}
        while True:
            # A renewal that was under way may have the last word once.
            (tmp_path / FILE).write_text(json.dumps(other))
            time.sleep(0.05)

"""Fits that are ended from outside, a few cells of the table of `tests.kill_matrix`."""

from pathlib import Path

import pytest

from tests.kill_matrix import bundle_of, fit


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rt")
    return bundle_of(folder, *fit(folder))


@pytest.mark.parametrize(
    ("phase", "victim", "code", "says"),
    [
        ("rerank", "SIGTERM", 143, "terminated"),
        ("select", "raylet", 1, "raylet, Ray's process on this machine, has died; its log: "),
    ],
)
def test_the_same_command_goes_on_after_a_fault(
    phase: str, victim: str, code: int, says: str, unbroken: str, tmp_path: Path
) -> None:
    ended, seconds, said = fit(tmp_path, phase, victim)
    assert seconds is not None, said
    assert ended == code, said
    last = said.rstrip().splitlines()[-1]
    assert says in last
    assert code != 1 or last.endswith("The same command goes on at the last checkpoint.")
    assert "Traceback" not in said
    assert bundle_of(tmp_path, *fit(tmp_path)) == unbroken

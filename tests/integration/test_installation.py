"""The Makefile's installation, on machines with a C++ compiler and without one.

No package is installed here: the environment's Python is a script that notes what pip is asked for.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("make", "bash", "rm", "touch", "awk", "ls")

PYTHON = """#!/bin/sh
case "$*" in
    *"-m pip"*) echo "$*" >> '{venv}/pip'; exit {pip} ;;
    *get_path*) echo '{headers}' ;;
    *"import hnswlib"*) exit 1 ;;
    *) exec '{python}' "$@" ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """A folder in place of PATH, one in place of .venv, and one in place of Python's headers."""

    path: Path
    venv: Path
    headers: Path

    def make(self, target: str = "hnswlib") -> str:
        """Run a target and return what it says; a failure is an error."""
        environment = {"PATH": str(self.path), "LANG": "C.UTF-8"}
        words = [str(self.path / "make"), target, f"VENV={self.venv}"]
        ended = subprocess.run(
            words, check=True, text=True, env=environment, capture_output=True, cwd=ROOT
        )
        return ended.stdout + ended.stderr

    @property
    def asked(self) -> list[str]:
        """What pip was called with."""
        log = self.venv / "pip"
        return log.read_text().splitlines() if log.exists() else []

    def left_out(self) -> bool:
        return (self.venv / ".without-hnswlib").exists()

    def add_compiler(self) -> None:
        (self.path / "c++").write_text("#!/bin/sh\nexit 0\n")
        (self.path / "c++").chmod(0o755)

    def add_headers(self) -> None:
        (self.headers / "Python.h").touch()

    def python(self, pip: int = 0) -> None:
        """Write the environment's Python, whose pip ends with this code."""
        script = PYTHON.format(venv=self.venv, headers=self.headers, pip=pip, python=sys.executable)
        (self.venv / "bin" / "python").write_text(script)
        (self.venv / "bin" / "python").chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One with the environment installed but for hnswlib, without compiler and headers."""
    made = Machine(tmp_path / "path", tmp_path / "venv", tmp_path / "headers")
    for folder in (made.path, made.venv / "bin", made.headers):
        folder.mkdir(parents=True)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (made.path / tool).symlink_to(found)
    made.python()
    return made


HEADERS = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"


@pytest.mark.parametrize(
    ("compiler", "headers", "packages"),
    [(False, False, f"g++ {HEADERS}"), (False, True, "g++"), (True, False, HEADERS)],
    ids=["neither", "no compiler", "no headers"],
)
def test_without_a_compiler_it_says_what_to_install_and_goes_on(
    compiler: bool, headers: bool, packages: str, machine: Machine
) -> None:
    if compiler:
        machine.add_compiler()
    if headers:
        machine.add_headers()
    first, second = machine.make().splitlines()
    assert first.startswith(
        "hnswlib cannot be built here, so large catalogues are searched exactly"
    )
    assert second.endswith(f": apt-get install {packages}, then run make again.")
    assert machine.left_out()
    assert machine.asked == []
    # Once is enough.
    assert machine.make() == ""


def test_a_later_make_with_a_compiler_installs_it(machine: Machine) -> None:
    machine.make()
    # Newer than what it is made from: the rest is not installed again.
    ready = machine.venv / ".ready"
    ready.touch()
    machine.make(str(ready))
    assert machine.left_out()
    machine.add_compiler()
    machine.add_headers()
    assert machine.make(str(ready)) == ""
    (asked,) = machine.asked
    assert asked.endswith("-c constraints.txt hnswlib")
    assert not machine.left_out()
    machine.make(str(ready))
    assert machine.asked == [asked]


def test_a_whole_installation_asks_for_hnswlib_alone_and_last(machine: Machine) -> None:
    machine.add_compiler()
    machine.add_headers()
    (machine.path / "python3").symlink_to(machine.venv / "bin" / "python")
    machine.make(str(machine.venv / ".ready"))
    all_else, hnswlib = machine.asked
    assert all_else.endswith(f"-r {machine.venv}/requirements.txt")
    needed = (machine.venv / "requirements.txt").read_text()
    assert "torch" in needed and "hnswlib" not in needed
    assert hnswlib.endswith("-c constraints.txt hnswlib")


def test_a_build_that_fails_does_not_stop_the_rest(machine: Machine) -> None:
    machine.add_compiler()
    machine.add_headers()
    machine.python(pip=1)
    assert f"Why is in {machine.venv}/hnswlib.log" in machine.make()
    assert not machine.left_out()


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler: apt-get install g++")
def test_a_real_compiler_is_known_as_one(machine: Machine) -> None:
    machine.add_headers()
    machine.make()
    assert machine.left_out()
    environment = os.environ["PATH"]
    (machine.path / "c++").write_text(f'#!/bin/sh\nPATH={environment} exec c++ "$@"\n')
    (machine.path / "c++").chmod(0o755)
    machine.make()
    assert not machine.left_out()

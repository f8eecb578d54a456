"""The image of the cluster: its steps, the cheap ones for real, as Ray's image runs them.

All of it is built by tests/image.sh.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster" / "image.Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("hnsw", "mlflow", "onnx", "text")
# Ray's image runs its steps as `ray`, of the group `users`.
USER, GROUP = 1000, 100
PIP = '#!/bin/sh\nwhile [ "$1" != -r ]; do shift; done\ncp "$2" "$COPIED"\n'


def steps(word: str) -> list[str]:
    """The instructions of a kind, each on one line."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    return [
        line.removeprefix(f"{word} ") for line in joined.splitlines() if line.startswith(f"{word} ")
    ]


def unprivileged() -> dict[str, Any]:
    """What makes a process Ray's user, where this one is root."""
    return {} if os.getuid() else {"user": USER, "group": GROUP, "extra_groups": []}


def python() -> str:
    """A Python that an unprivileged user may run: this one may be in a folder of root's."""
    for path in (str(Path(sys.executable).resolve()), shutil.which("python3", path="/usr/bin")):
        words = ["sh", "-c", f"{path} -c 'import tomllib'"]
        if (
            path
            and not subprocess.run(
                words, cwd="/", stderr=subprocess.DEVNULL, **unprivileged()
            ).returncode
        ):
            return path
    pytest.skip("no Python here that another user than root may run")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may enter, with the copied files as their owner's alone to change."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "raytower").mkdir()
        for source in steps("COPY")[0].split()[1:-1]:
            shutil.copy(ROOT / source, place / "raytower")
        (place / "raytower").chmod(0o555)
        yield place
        (place / "raytower").chmod(0o755)


def test_the_requirements_are_written_by_an_unprivileged_user(folder: Path) -> None:
    step = next(step for step in steps("RUN") if "pip install" in step)
    programs, written = folder / "bin", folder / "written"
    for made in (programs, written):
        made.mkdir()
    written.chmod(0o777)
    (programs / "pip").write_text(PIP)
    (programs / "pip").chmod(0o755)
    (programs / "python").symlink_to(python())
    copied = written / "copied.txt"
    # Nothing but the places differs from the step.
    step = step.replace("/tmp/requirements", f"{written}/requirements")
    step = step.replace("/tmp/raytower", f"{folder}/raytower")
    env = {"PATH": f"{programs}:/usr/bin:/bin", "COPIED": str(copied)}
    done = subprocess.run(
        ["sh", "-c", step], env=env, cwd="/", capture_output=True, text=True, **unprivileged()
    )
    assert done.returncode == 0, done.stderr
    extras = [one for name in EXTRAS for one in PROJECT["optional-dependencies"][name]]
    assert copied.read_text().splitlines() == [*PROJECT["dependencies"], *extras]
    # Nothing stays in the layer.
    assert list(written.iterdir()) == [copied]


def test_every_requirement_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    pins = {canonicalize_name(name): pin.partition(";")[0] for name, pin in pins.items()}
    wanted = [one for name in EXTRAS for one in PROJECT["optional-dependencies"][name]]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *wanted]):
        pin = pins[canonicalize_name(requirement.name)].strip()
        assert requirement.specifier.contains(pin), requirement


def test_what_is_not_in_rays_image_is_installed_as_its_user_may() -> None:
    packages = next(step for step in steps("RUN") if "apt-get install" in step)
    assert "g++" in packages
    # `ray` is not root, and may `sudo` without a password.
    for command in packages.split("&&"):
        assert command.split()[0] == "sudo"
    assert steps("COPY")[0].startswith(f"--chown={USER}:{GROUP} ")

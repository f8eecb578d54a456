"""What OpenMP reads when torch is imported: our default, or what the shell says."""

import os
import re
import subprocess
import sys

import pytest

# The modules that commands, workers and replicas begin with.
ENTRIES = (
    "train.trainer.workers",
    "train.__main__, torch",
    "tune.__main__, torch",
    "serve.__main__, torch",
    "cluster.environment as e; e.prepare(); import torch",
)


def _spins(entry: str, **shell: str) -> set[str]:
    """Return the turns of a waiting thread, as said by each OpenMP that the process loads."""
    unset = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", **shell}
    words = [sys.executable, "-c", f"import {entry}"]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return set(re.findall(r"GOMP_SPINCOUNT = '(\w+)'", ended.stderr))


@pytest.fixture(scope="module", autouse=True)
def gnu() -> None:
    if not _spins("torch"):
        pytest.skip("this torch has another OpenMP than GNU's")


@pytest.mark.parametrize("entry", ENTRIES)
def test_idle_threads_sleep_soon(entry: str) -> None:
    assert _spins(entry) == {"1000"}


def test_what_the_shell_says_stays() -> None:
    assert _spins("train, torch", GOMP_SPINCOUNT="7") == {"7"}
    passive = _spins("torch", OMP_WAIT_POLICY="passive")
    assert _spins("train, torch", OMP_WAIT_POLICY="passive") == passive != {"1000"}

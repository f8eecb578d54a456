"""Trials: the tests that concern a mutant, run in a copy of the checkout that has its bug."""

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.mutants.mutant import Mutant, mutated

# What a copy does without, besides all hidden folders. At the top only: train/data is code.
LEFT_OUT = {"runs", "data", "build", "dist", "shared"}
# A test that failed, or whose fixtures did; a file that cannot be collected has no "::".
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", re.MULTILINE)
TESTS_FAILED = 1  # pytest's exit code


@dataclass(frozen=True)
class Trial:
    """How one mutant fared.

    Attributes:
        verdict: `caught` where a test failed, `survived` where all passed, else `error`.
        detail: the test that failed, or the end of what pytest printed.
    """

    verdict: Literal["caught", "survived", "error"]
    detail: str


async def attempt(mutant: Mutant, checkout: Path) -> Trial:
    """Run a mutant's tests in a copy of the checkout with its bug."""
    try:
        text = mutated(mutant, checkout)
    except ValueError as error:
        return Trial("error", str(error))
    with copied(checkout) as copy:
        (copy / mutant.file).write_text(text, encoding="utf-8")
        code, output = await pytest(copy, ["-x", *mutant.tests])
    failed = FAILED.search(output)
    if code == TESTS_FAILED and failed:
        return Trial("caught", failed[1])
    return Trial("error" if code else "survived", "\n".join(output.splitlines()[-15:]))


@contextmanager
def copied(checkout: Path) -> Iterator[Path]:
    """Yield a copy of a checkout's files, without environment, runs and history."""
    home = Path(tempfile.mkdtemp(prefix="mutant-"))
    try:
        for path in checkout.iterdir():
            if path.is_file():
                shutil.copy2(path, home / path.name)
            elif path.name not in LEFT_OUT and not path.name.startswith("."):
                shutil.copytree(path, home / path.name)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def pytest(folder: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """Run pytest in a folder; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider"),
        *arguments,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        await _end(process)
    return process.returncode or 0, output.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Interrupt pytest where it still runs, so that it ends what its tests started, and wait."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is None:
            os.killpg(process.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 20)

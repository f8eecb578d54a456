"""`python -m tests.kill_matrix [--phase P] [--victim V]`: end a fit in every phase and way.

Prints a Markdown table: how the command ended, in how many seconds, what it said last, and whether
the same command, repeated, wrote the bytes of an unbroken run.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests import serving
from tests.waiting import BOUND

ROOT = Path(__file__).parents[1]
# What the log says when a phase has begun; of the first, that Ray runs.
PHASES: Mapping[str, str] = {
    "start": "interactions to learn from",
    "select": "select: epoch 2,",
    "refit": "refit: epoch 1,",
    "rerank": "rerank: candidates of",
    "test": "test: ranking",
    "report": "report: drawing",
}
SIGNALS = {"SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT, "driver": signal.SIGKILL}
PROCESSES: Mapping[str, Callable[[bytes], bool]] = {
    "worker": lambda words: b"ray::RayTrainWorker" in words or b"ray::_RayTrainWorker" in words,
    "controller": lambda words: b"ray::TrainController" in words,
    "raylet": lambda words: b"raylet/raylet" in words,
    "gcs": lambda words: b"gcs_server" in words,
    "all of Ray": lambda words: b"ray" in words and b"-m\0train" not in words,
}
RUN = """
name = "killed"
data = { name = "generated", users = 300, items = 200, interactions = 8000 }
train = { workers = 1, epochs = 6 }
sources = ["tower", "ease"]
evaluation = { baselines = ["popularity"], resamples = 100 }
"""
TIME = re.compile(r"^\d\d:\d\d:\d\d ")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_matrix")
    parser.add_argument("--phase", nargs="*", default=list(PHASES), choices=PHASES)
    victims = [*SIGNALS, *PROCESSES]
    parser.add_argument("--victim", nargs="*", default=victims, choices=victims)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        whole = bundle_of(Path(folder), *fit(Path(folder)))
        print("| phase | ended | exit | s | said last | repeated, the bytes are |", flush=True)
        print("|---|---|---|---|---|---|", flush=True)
        for phase in given.phase:
            for victim in given.victim:
                print(row(Path(folder), phase, victim, whole), flush=True)


def row(folder: Path, phase: str, victim: str, whole: str) -> str:
    """Return the line of the table for one kill."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    code, seconds, said = fit(folder, phase, victim)
    if seconds is None:
        return f"| {phase} | {victim} | {code} | | there is none then | |"
    again = fit(folder)
    equal = "equal" if bundle_of(folder, *again) == whole else f"NOT equal (exit {again[0]})"
    last = [line for line in said.splitlines() if line.strip()][-1:]
    words = TIME.sub("", last[0])[:200].replace("|", "/") if last else ""
    return f"| {phase} | {victim} | {code} | {seconds:.1f} | {words} | {equal} |"


def fit(folder: Path, phase: str = "", victim: str = "") -> tuple[int, float | None, str]:
    """Fit; return the exit code, seconds since the kill (None where there was none), the log."""
    run = folder / "run.toml"
    run.write_text(RUN)
    words = [sys.executable, "-m", "train", "fit", str(run), "--storage", str(folder / "runs")]
    mark = f"{folder.name}-{time.monotonic_ns()}"
    # A short path: Ray's sockets lie below it.
    ray = f"/tmp/rt-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    env = os.environ | {"RAYTOWER_KILLED": mark, "RAYTOWER_RAY_DIR": ray}
    log = folder / "log"
    killed: float | None = None
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=output, stderr=output)
        while victim and killed is None and process.poll() is None:
            time.sleep(0.02)
            if PHASES[phase] in log.read_text() and kill(process, mark, victim):
                killed = time.monotonic()
        code = process.wait(BOUND)
    end_rest(mark)
    shutil.rmtree(ray, ignore_errors=True)
    return code, None if killed is None else time.monotonic() - killed, log.read_text()


def kill(process: "subprocess.Popen[bytes]", mark: str, victim: str) -> bool:
    """End a victim; False where it is not there."""
    if victim in SIGNALS:
        process.send_signal(SIGNALS[victim])
        return True
    found = [number for number, words in family(mark) if PROCESSES[victim](words)]
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return bool(found)


def family(mark: str) -> Iterator[tuple[int, bytes]]:
    """Yield the processes with this mark in their environment, and their arguments."""
    for folder in serving.family(mark):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_bytes()


def end_rest(mark: str) -> None:
    """End what a killed driver left, which Ray ends itself within a minute."""
    for number, _ in family(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def bundle_of(folder: Path, code: int, _: float | None, said: str) -> str:
    """Return a hash of the files of the run's one bundle, but for what names times."""
    found = sorted((folder / "runs" / "killed" / "bundles").glob("*/"))
    if code or len(found) != 1:
        return f"exit {code}, {len(found)} bundles: {said[-300:]}"
    names = sorted(file for file in found[0].iterdir() if file.name != "manifest.json")
    parts = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in names]
    return "\n".join(parts)


if __name__ == "__main__":
    main()

"""Seconds and memory of each phase of a run, as data grow.

Run as `python -m tests.benchmarks.scale [--interactions N ...] [--storage FOLDER]`. Each N is
written as Parquet, by N/30 users over N/300 items, and fitted in a process of its own, whose towers
see a fixed number of examples. Prints, for each phase that the log names, its seconds and the
largest memory that the process had in it, and the exponent of their growth from one N to the next.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
EXAMPLES = 1_000_000
TASTES = 50
# Rows that are drawn and written at a time.
BLOCK = 2_000_000
# A line of the log that a phase begins with, by its name.
PHASES = {
    "read": "reading",
    "pick": "pick:",
    "towers": "interactions to learn from",
    "sources": "sources:",
    "rerank": "rerank: candidates",
    "test": "test: ranking",
    "report": "report: drawing",
}
Phases = dict[str, tuple[float, float]]
"""Seconds and bytes of each phase."""


def main() -> None:
    """Fit each size, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale")
    parser.add_argument("--interactions", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--storage", type=Path)
    given, flags = parser.parse_known_args()
    sizes: dict[int, Phases] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = given.storage or Path(folder)
        for count in given.interactions:
            written(place / f"{count}", count)
            sizes[count] = fitted(place, count, flags)
            show(count, sizes[count])
    for small, large in pairwise(given.interactions):
        growth(small, sizes[small], large, sizes[large])


def written(folder: Path, count: int) -> None:
    """Write interactions whose users like one of some tastes, a file a block."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, users, items = np.random.default_rng(0), max(count // 30, 10), max(count // 300, 50)
    for number, begin in enumerate(range(0, count, BLOCK)):
        file = folder / f"part-{number:05d}.parquet"
        if file.exists():
            continue
        size = min(BLOCK, count - begin)
        user = draw.integers(users, size=size)
        # Items by popularity, two thirds of them of the user's own taste.
        item = (items * draw.random(size) ** 2).astype(np.int64)
        own = (item // TASTES * TASTES + user % TASTES).clip(max=items - 1)
        item = np.where(draw.random(size) < 2 / 3, own, item)
        time_of = 1_600_000_000 + draw.integers(0, 365 * 86_400, size)
        pq.write_table(pa.table({"user_id": user, "item_id": item, "timestamp": time_of}), file)


def fitted(place: Path, count: int, flags: list[str]) -> Phases:
    """Fit, and return seconds and the most memory of each phase."""
    run = place / f"{count}.toml"
    run.write_text(
        f'name = "n{count}"\n'
        f'data = {{ name = "files", interactions = "{place / str(count)}" }}\n'
        f"train = {{ workers = 0, epochs = 1, epoch_examples = {EXAMPLES} }}\n"
    )
    words = [sys.executable, "-m", "train", "fit", str(run), "--storage", str(place / "runs")]

    process = subprocess.Popen(
        [*words, "--no-page", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    marks = [("start", time.monotonic())]
    memory: list[tuple[float, int]] = []
    threading.Thread(target=_sample, args=(process.pid, memory), daemon=True).start()
    assert process.stderr is not None
    for line in process.stderr:
        print("   ", line.rstrip(), flush=True)
        name = next((name for name, words in PHASES.items() if words in line), None)
        if name and name != marks[-1][0]:
            marks.append((name, time.monotonic()))
    process.wait()
    marks.append(("end", time.monotonic()))
    return _phases(marks, memory)


def _sample(pid: int, memory: list[tuple[float, int]]) -> None:
    """Add the memory of a process that no file backs, some times a second, until it ends."""
    try:
        while True:
            info = psutil.Process(pid).memory_info()
            memory.append((time.monotonic(), info.rss - info.shared))
            time.sleep(0.05)
    except psutil.Error:
        return


def _phases(marks: list[tuple[str, float]], memory: list[tuple[float, int]]) -> Phases:
    found: Phases = {}
    for (name, begun), (_, ended) in pairwise(marks):
        most = max((size for at, size in memory if begun <= at <= ended), default=0)
        seconds, before = found.get(name, (0.0, 0.0))
        found[name] = seconds + ended - begun, max(before, most)
    return found


def show(count: int, phases: Phases) -> None:
    """Print the phases of a run."""
    for name, (seconds, most) in phases.items():
        print(
            f"{count:12,}  {name:8} {seconds:8.1f} s  {most / 2**30:6.2f} GiB  "
            f"{most / count:8.0f} B an interaction",
            flush=True,
        )


def growth(small: int, before: Phases, large: int, after: Phases) -> None:
    """Print by which power of N each phase has grown."""
    for name in before.keys() & after.keys():
        powers = [
            math.log(late / max(early, 1e-9)) / math.log(large / small)
            for early, late in zip(before[name], after[name], strict=True)
        ]
        print(f"ratio  {name:8} seconds N^{powers[0]:.2f}, memory N^{powers[1]:.2f}")


if __name__ == "__main__":
    main()

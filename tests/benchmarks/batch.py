"""`python -m serve batch` against its stages alone: what is lost around the work itself.

Run as `python -m tests.benchmarks.batch [--users N] [--items N] [--k K]`. The stages run in as many
processes as there are workers, each with a bundle of its own and one thread, on some of the users;
the batch is timed from its first part to its last. Prints users/s of both, the ratio, and the
private memory of the workers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from cluster.cpus import available_cpus
from serve.batch.answers import BLOCK
from serve.config import ONE_THREAD
from tests.bundles import write_bundle
from train.bundle.bundle import open_bundle
from train.recommender.answers import rank_retrieved
from train.recommender.requests import Request
from train.recommender.retrieval import retrieve_for_users

ROOT = Path(__file__).parents[2]
SAMPLE = 8 * BLOCK


def main() -> None:
    """Time both, and print what they reach."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batch")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--trees", type=int, default=200)
    given = parser.parse_args()
    workers = available_cpus()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder), users=given.users, items=given.items, trees=given.trees)
        alone = stages(bundle, given.k, workers)
        batch, memory = whole(bundle, Path(folder) / "out", given.k, workers)
    print(f"{given.users:,} users, {given.items:,} items, k {given.k}, {workers} workers")
    print(f"stages alone   {alone:10,.0f} users/s")
    print(f"the batch      {batch:10,.0f} users/s")
    print(f"private memory {memory / 1e6:10,.0f} MB of the largest worker")
    print(f"ratio          {batch / alone:10.2f} of the stages' rate (target 0.8)")


def stages(bundle: Path, k: int, workers: int) -> float:
    """Return users/s of both stages in so many processes at once."""
    # The threads of a process are counted when its libraries are loaded.
    os.environ.update(ONE_THREAD)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        rates = pool.map(_rate, [str(bundle)] * workers, [k] * workers)
        return sum(rates)


def _rate(bundle: str, k: int) -> float:
    recommender, request = open_bundle(bundle).recommender, Request(k=k)
    users = np.arange(min(SAMPLE, len(recommender.users)), dtype=np.int32)
    blocks = [users[at : at + BLOCK] for at in range(0, len(users), BLOCK)]
    begun = 0.0
    for number, block in enumerate(blocks):
        found = retrieve_for_users(recommender, block, request)
        rank_retrieved(recommender, [request], found)
        # The first one fills caches.
        begun = begun if number else time.perf_counter()
    return (len(users) - BLOCK) / (time.perf_counter() - begun)


def whole(bundle: Path, out: Path, k: int, workers: int) -> tuple[float, float]:
    """Return users/s of the command once each worker has a part, and the bytes of the largest."""
    words = [sys.executable, "-m", "serve", "batch", str(bundle), "--out", str(out), "--k", str(k)]
    process, most = subprocess.Popen([*words, "--address", "local"], cwd=ROOT), 0.0
    while process.poll() is None:
        most = max(most, _largest(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0
    plan = json.loads((out / "_batch.json").read_text())
    ended = sorted(part.stat().st_mtime for part in out.glob("part-*"))
    users = plan["users_per_part"] * (len(ended) - workers)
    return users / (ended[-1] - ended[workers - 1]), most


def _largest(parent: int) -> float:
    """Return the private bytes of the largest process of Ray Data below another."""
    found = [0.0]
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if "MapWorker" in " ".join(child.cmdline()):
                found.append(child.memory_full_info().uss)
        except psutil.Error:
            continue
    return max(found)


if __name__ == "__main__":
    main()

"""How long a service takes until it answers, and what memory each further replica takes.

`python -m tests.benchmarks.serve_start [BUNDLE] [--rounds 3] [--users 300000] [--items 200000]`

Starts are of BUNDLE, by default a small one with towers, and in turn of a Ray Serve whose replicas
answer a word: what Ray takes by itself. Memory is of a larger bundle, planted, of both stages: what
is private to a replica, less what is private to one that answers a word; arrays that are mapped are
in memory once, whatever the number of replicas.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import psutil

from cluster.ports import free_ports
from tests.bundles import write_bundle, write_tower_bundle
from train.bundle.bundle import open_bundle

REPLICA = "ray::ServeReplica"
MIB = 2**20


@dataclass
class Started:
    """A service that answers.

    Attributes:
        seconds: until its first answer.
        replica_seconds: from the start of the last replica's process to that answer.
        private: bytes that each replica alone has in memory.
    """

    seconds: float
    replica_seconds: float
    private: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", help="by default one of towers never trained")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        small = Path(arguments.bundle or write_tower_bundle(Path(home) / "small", history=50))
        starts = [(_started(_ours(small)), _started(_bare())) for _ in range(arguments.rounds)]
        _show_starts(starts)
        print(f"making a bundle of {arguments.users:,} x {arguments.items:,} ...", flush=True)
        sizes = {"users": arguments.users, "items": arguments.items, "width": 64}
        large = write_bundle(Path(home) / "large", trees=300, depth=6, **sizes)
        _show_memory(_started(_ours(large)), starts[0][1], large)


def _ours(bundle: Path) -> list[str]:
    return ["serve", str(open_bundle(bundle).folder)]


def _bare() -> list[str]:
    return ["tests.benchmarks.bare_server"]


def _started(words: list[str]) -> Started:
    port = free_ports(1)[0]
    begun = time.time()
    command = [sys.executable, "-m", *words, "--port", str(port)]
    with _running(command) as process:
        while not _answers(f"http://127.0.0.1:{port}/" + ("recommend" if "serve" in words else "")):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(words)} ended before it answered")
            time.sleep(0.02)
        answered = time.time()
        replicas = _replicas(process.pid)
        # Whatever a replica does once it has answered has been done a moment later.
        time.sleep(3)
        private = [replica.memory_full_info().uss for replica in replicas]
        last = max(replica.create_time() for replica in replicas)
        return Started(answered - begun, answered - last, private)


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.post(url, json={}).status_code == 200
    return False


def _replicas(pid: int) -> list[psutil.Process]:
    """Return the replicas of the service of a process."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if " ".join(child.cmdline()).startswith(REPLICA)]


def _show_starts(starts: list[tuple[Started, Started]]) -> None:
    for name, at in (("python -m serve", 0), ("Ray Serve, a word", 1)):
        took = [pair[at].seconds for pair in starts]
        since = median(pair[at].replica_seconds for pair in starts)
        said = ", ".join(f"{seconds:.1f}" for seconds in took)
        print(f"{name:18} answers after {said} s; {since:.1f} s after a replica's start")
    ratio = median(ours.seconds / bare.seconds for ours, bare in starts)
    print(f"ratio  start / that of Ray Serve alone  {ratio:.2f}")


def _show_memory(ours: Started, bare: Started, bundle: Path) -> None:
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    alone = median(bare.private)
    more = max(ours.private) - alone
    print(f"the bundle has {size / MIB:,.0f} MiB; it answers after {ours.seconds:.1f} s,")
    print(f"{ours.replica_seconds:.1f} s after the last replica's start (target 3)")
    print(f"private to a replica: {_mib(ours.private)}; of one with a word {_mib(bare.private)}")
    print(f"a further replica takes {more / MIB:.0f} MiB beyond Ray and Python (target 60)")
    print(f"ratio  private memory of a replica / the bundle's size  {more / size:.3f}")


def _mib(sizes: list[int]) -> str:
    return ", ".join(f"{size / MIB:.0f}" for size in sizes) + " MiB"


if __name__ == "__main__":
    main()

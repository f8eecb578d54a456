"""`python -m tests.node_matrix`: one file on one, two and three nodes, that join late and die.

Prints a Markdown table: how the fit ended, after how many seconds, its test NDCG@10, and whether
the bundle has the bytes of the one that was made on one node. Nodes are network namespaces.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.kill_matrix import bundle_of
from tests.machines import ROOT, Machine, machines
from tests.waiting import BOUND
from train.bundle.bundle import check

RUN = """
name = "killed"
data = { name = "generated", users = 400, items = 300, interactions = 20000 }
sources = ["tower", "ease"]
evaluation = { baselines = ["popularity"], resamples = 100 }
"""
EPOCH = "select: epoch 2,"

Meanwhile = Callable[[str], bool]
"""Called with the log of a fit until it has done what it was to do, which it says."""


def main() -> None:
    """Print the table."""
    with machines(3) as (first, second, third):
        print("| nodes, CPUs of each | ended | s | NDCG@10 | bytes are |", flush=True)
        print("|---|---|---|---|---|", flush=True)
        start(first, 3)
        whole = row("3", first, 3, "")
        stop(first)
        start(first, 2)
        join(first, second, 1)
        row("2, 1", first, 3, whole)
        stop(second)
        stop(first)
        start(first, 1)
        for other in (second, third):
            join(first, other, 1)
        row("1, 1, 1", first, 3, whole)
        two = row("1, 1, 1: two workers", first, 2, "")
        dies = dying([second, third])
        row("1, 1, 1: two workers, the node of one dies", first, 2, two, dies)
        stop(third)
        join(first, third, 1)
        stop(third)
        late = joining(first, third)
        row("1, 1, and 1 that joins late", first, 3, whole, late, "--train.wait")


def start(first: Machine, cpus: int) -> None:
    """Start a head."""
    done = first.run("cluster", "start", f"--host={first.address}", f"--num-cpus={cpus}")
    assert done.returncode == 0, done.stderr
    said = re.search(r"scp \S+:(\S+) ~/(\S+) ", done.stdout)
    assert said
    (first.shared / "token").write_bytes(Path(said[1]).read_bytes())
    (first.shared / "place").write_text(said[2])


def join(first: Machine, other: Machine, cpus: int) -> None:
    """Start a node that joins the head, with its token."""
    token = other.home / (first.shared / "place").read_text()
    token.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(first.shared / "token", token)
    token.chmod(0o600)
    address = f"--address={first.address}:6379"
    done = other.run("cluster", "start", address, f"--num-cpus={cpus}")
    assert done.returncode == 0, done.stderr


def stop(machine: Machine) -> None:
    """End what runs there."""
    machine.run("cluster", "stop")


def dying(others: Sequence[Machine]) -> Meanwhile:
    """Return what ends a machine with a worker, once there is an epoch to go on from."""

    def kill(log: str) -> bool:
        if EPOCH not in log:
            return False
        having = [machine for machine in others if _has_worker(machine)]
        if having:
            having[0].kill()
        return bool(having)

    return kill


def joining(first: Machine, other: Machine) -> Meanwhile:
    """Return what has a machine join once workers are waited for."""

    def late(log: str) -> bool:
        waiting = "no epoch for" in log
        if waiting:
            join(first, other, 1)
        return waiting

    return late


def _has_worker(machine: Machine) -> bool:
    told = subprocess.run(
        ["ip", "netns", "pids", machine.name], capture_output=True, text=True, check=True
    )
    words = (_words(pid) for pid in told.stdout.split())
    return any(b"RayTrainWorker" in of for of in words)


def _words(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def row(
    title: str,
    first: Machine,
    workers: int,
    whole: str,
    meanwhile: Meanwhile | None = None,
    *flags: str,
) -> str:
    """Fit, print a line, and return a hash of the bundle.

    Args:
        title: of the line.
        first: where the command runs.
        workers: of the training.
        whole: the hash to compare with; "" for none.
        meanwhile: what happens during the fit.
        flags: of the command.
    """
    runs = first.shared / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    code, seconds, said = fit(first, workers, flags, meanwhile)
    found = bundle_of(first.shared, code, None, said)
    figure = f"{_ndcg(runs):.6f}" if not code else said[-300:].replace("\n", " / ")
    same = "" if not whole else "equal" if found == whole else "NOT equal"
    print(f"| {title} | {code} | {seconds:.0f} | {figure} | {same} |", flush=True)
    return found


def fit(
    first: Machine, workers: int, flags: Sequence[str], meanwhile: Meanwhile | None
) -> tuple[int, float, str]:
    """Fit; return the exit code, seconds and the log."""
    file, log = first.shared / "run.toml", first.shared / "log"
    file.write_text(RUN)
    words = ["train", "fit", str(file), "--storage", str(first.shared / "runs"), "--no-page"]
    words += [f"--train.workers={workers}", "--train.epochs=6", *flags]
    begun, pending = time.monotonic(), meanwhile
    with log.open("wb") as output:
        process = subprocess.Popen(
            first.words(*words), cwd=ROOT, env=first.env, stdout=output, stderr=output
        )
        while process.poll() is None and time.monotonic() - begun < BOUND:
            time.sleep(0.05)
            if pending and pending(log.read_text()):
                pending = None
        code = process.wait(1)
    happened = "" if pending is None else "\nit ended before anything happened"
    return code, time.monotonic() - begun, log.read_text() + happened


def _ndcg(runs: Path) -> float:
    _, manifest = check(str(runs / "killed"))
    return float(manifest["metrics"]["systems"]["both_stages"]["ndcg"]["mean"])


if __name__ == "__main__":
    main()

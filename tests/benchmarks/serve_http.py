"""Requests a second over HTTP: Ray Serve, split and fused, beside plain FastAPI programs.

`python -m tests.benchmarks.serve_http [BUNDLE] [--seconds 5] [--rounds 3] [--connections 1 16 64]`

All servers stand at the same time and are loaded in turn by `wrk`, in a closed loop; a row is the
median over the rounds, and a ratio is the median of the rounds' ratios. Every server answers 200
users alike before anything is timed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from cluster.cpus import available_cpus
from cluster.ports import free_ports
from tests.bundles import write_bundle
from train.bundle.bundle import Bundle, open_bundle
from train.recommender.answers import recommend
from train.recommender.requests import Request

SERVERS = {
    "split": ["serve", "--topology", "split"],
    "fused": ["serve", "--topology", "fused"],
    "FastAPI, plain": ["tests.benchmarks.fastapi_server"],
    "FastAPI, micro-batching": ["tests.benchmarks.fastapi_server", "--batching"],
}
PLAIN, BATCHING = "FastAPI, plain", "FastAPI, micro-batching"

# wrk sends the bodies of a file one after the other, each thread from its own place.
SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function init(args) math.randomseed(os.time()); at = math.random(#bodies) end
function request()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}

Measured = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", help="by default one of 20 k users and 30 k items")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk, which is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        folder = Path(arguments.bundle) if arguments.bundle else planted(Path(home))
        bundle = open_bundle(folder)
        script = write_script(Path(home), bundle)
        urls = {
            name: stack.enter_context(running(words, bundle.folder))
            for name, words in SERVERS.items()
        }
        check(urls, bundle)
        found = {
            count: measure(urls, script, count, arguments.seconds, arguments.rounds)
            for count in arguments.connections
        }
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


def planted(home: Path) -> Path:
    print("making a bundle ...", flush=True)
    sizes: dict[str, Any] = {"users": 20_000, "items": 30_000, "width": 64, "history": 50}
    return write_bundle(home, trees=300, depth=6, **sizes)


def write_script(home: Path, bundle: Bundle) -> Path:
    bodies = home / "bodies.jsonl"
    users = bundle.recommender.users.ids.to_pylist()[:20_000]
    bodies.write_text("\n".join(json.dumps({"user_id": user, "k": 10}) for user in users))
    script = home / "wrk.lua"
    script.write_text(SCRIPT.replace("BODIES", str(bodies)))
    return script


@contextlib.contextmanager
def running(words: list[str], folder: Path) -> Iterator[str]:
    """Start a server; yield its URL once it answers."""
    port = free_ports(1)[0]
    print("starting", *words, "...", flush=True)
    command = [sys.executable, "-m", words[0], str(folder), "--port", str(port), *words[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}/recommend"
        try:
            while not answers(url):
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(log.read().decode())
                time.sleep(0.5)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.post(url, json={}).status_code == 200
    except httpx.HTTPError:
        return False


def check(urls: dict[str, str], bundle: Bundle) -> None:
    """Ask every server for 200 users at once, and compare with the offline answers."""
    asked = [Request(user_id=user) for user in bundle.recommender.users.ids.to_pylist()[:200]]
    expected = recommend(bundle.recommender, asked)
    for name, url in urls.items():
        with ThreadPoolExecutor(16) as pool, httpx.Client(timeout=60) as client:
            calls = [pool.submit(client.post, url, json={"user_id": r.user_id}) for r in asked]
            given = [call.result().json() for call in calls]
        for ours, theirs in zip(expected, given, strict=True):
            same = [e["item_id"] for e in ours["items"]] == [e["item_id"] for e in theirs["items"]]
            gaps = [
                abs(a["score"] - b["score"])
                for a, b in zip(ours["items"], theirs["items"], strict=True)
            ]
            if not same or max(gaps) > 1e-5:
                raise RuntimeError(f"{name} answers otherwise: {theirs}, expected {ours}")


def measure(
    urls: dict[str, str], script: Path, connections: int, seconds: int, rounds: int
) -> dict[str, Measured]:
    for url in urls.values():
        load(url, script, connections, 2)
    runs: list[dict[str, Measured]] = []
    for number in range(rounds):
        print(f"{connections} connections, round {number + 1} of {rounds} ...", flush=True)
        runs.append({name: load(url, script, connections, seconds) for name, url in urls.items()})
    return {name: summary(name, runs) for name in urls}


def summary(name: str, runs: list[dict[str, Measured]]) -> Measured:
    row = {key: median(run[name][key] for run in runs) for key in runs[0][name]}
    for key, other in (("vs_plain", PLAIN), ("vs_batching", BATCHING)):
        row[key] = median(run[name]["rps"] / run[other]["rps"] for run in runs)
    return row


def load(url: str, script: Path, connections: int, seconds: int) -> Measured:
    """Return requests a second and latencies in milliseconds of one run of wrk."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency"]
    words += ["-s", str(script), url]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{url} failed under load:\n{said}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found
    return {"rps": float(found[1]), "p50": latency(said, 50), "p99": latency(said, 99)}


def latency(said: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)\b", said)
    assert found
    return float(found[1]) * UNITS[found[2]]


def show(found: dict[int, dict[str, Measured]]) -> None:
    table = Table(title=f"closed loop, {available_cpus()} cores, wrk on the same machine")
    columns = ("connections", "server", "requests/s", "p50 ms", "p99 ms", "vs plain", "vs batching")
    for column in columns:
        table.add_column(column, justify="left" if column == "server" else "right")
    for connections, rows in found.items():
        for name, row in rows.items():
            table.add_row(
                str(connections),
                name,
                f"{row['rps']:,.0f}",
                f"{row['p50']:.1f}",
                f"{row['p99']:.1f}",
                f"{row['vs_plain']:.2f}",
                f"{row['vs_batching']:.2f}",
            )
        table.add_section()
    Console(width=100).print(table)
    most = max(found)
    for name, target in (("split", 0.8), ("fused", 1.1)):
        ratio = found[most][name]["vs_plain"]
        print(f"ratio  {name} / {PLAIN}, {most} connections  {ratio:.2f} (target {target})")


if __name__ == "__main__":
    main()

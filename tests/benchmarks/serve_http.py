"""Requests a second over HTTP: Ray Serve, split and fused, beside plain FastAPI programs.

`python -m tests.benchmarks.serve_http [BUNDLE] [--seconds 5] [--rounds 3] [--connections 1 16 64]`

Two more serve stage 1 alone, of one source and of four, and one is asked with a filter. All servers
stand at the same time and are loaded in turn by `wrk`, in a closed loop; a row is the
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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from cluster.cpus import available_cpus
from cluster.ports import free_ports
from tests.bundles import make_recommender, write_bundle
from train.bundle.bundle import Bundle, open_bundle, write
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.sources.base import Source
from train.sources.item_to_item import ItemToItemSource
from train.sources.lists import ListSource
from train.sources.vectors import VectorSource

SERVERS = {
    "split": ["serve", "--topology", "split"],
    "fused": ["serve", "--topology", "fused"],
    "FastAPI, plain": ["tests.benchmarks.fastapi_server"],
    "FastAPI, micro-batching": ["tests.benchmarks.fastapi_server", "--batching"],
}
ONE, FOUR, FILTERED = "stage 1, one source", "stage 1, four sources", "fused, filtered"
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
        urls = {
            name: stack.enter_context(running(words, bundle.folder))
            for name, words in SERVERS.items()
        }
        check(urls, bundle)
        targets = {name: (url, write_script(Path(home), bundle)) for name, url in urls.items()}
        if not arguments.bundle:
            rules = {"filter": {"colour": {"eq": "red"}}}
            targets[FILTERED] = urls["fused"], write_script(Path(home), bundle, rules)
            for name, several in ((ONE, False), (FOUR, True)):
                other = open_bundle(sources(Path(home), several))
                url = stack.enter_context(running(SERVERS["fused"], other.folder))
                check({name: url}, other)
                targets[name] = url, write_script(Path(home), other)
        found = {
            count: measure(targets, count, arguments.seconds, arguments.rounds)
            for count in arguments.connections
        }
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


def planted(home: Path) -> Path:
    print("making a bundle ...", flush=True)
    sizes: dict[str, Any] = {"users": 20_000, "items": 30_000, "width": 64, "history": 50}
    return write_bundle(home, trees=300, depth=6, **sizes)


def sources(home: Path, several: bool) -> Path:
    """Write a bundle of stage 1 alone: one source, or four, of vectors, weights and a list."""
    print("making a bundle of sources ...", flush=True)
    plain = make_recommender(20_000, 30_000, width=64, history=50, reranked=False)
    rng, catalogue = np.random.default_rng(0), plain.catalogue
    vectors = plain.item_vectors
    columns = rng.integers(0, len(vectors), 200 * len(vectors)).astype(np.int32)
    weights = rng.random(len(columns)).astype(np.float32)
    offsets = np.arange(0, len(columns) + 1, 200)
    made: dict[str, Source] = {
        "als": VectorSource(vectors, catalogue, np.eye(64, dtype=np.float32), np.array(1.0)),
        "ease": ItemToItemSource(weights, columns, offsets, catalogue),
        "recent": ListSource(rng.random(len(vectors)).astype(np.float32), catalogue),
    }
    quotas: dict[str, int | None] = {"tower": None, **dict.fromkeys(made if several else [])}
    parts = replace(plain, sources=made if several else {}, quotas=quotas, served="stage_1")
    return home / str(several) / write(home / str(several), parts, {"name": "sources"})


def write_script(home: Path, bundle: Bundle, rules: Mapping[str, Any] | None = None) -> Path:
    name = f"{bundle.version}-{'ruled' if rules else 'plain'}"
    bodies = home / f"{name}.jsonl"
    users = bundle.recommender.users.ids.to_pylist()[:20_000]
    asked = ({"user_id": user, "k": 10, **(rules or {})} for user in users)
    bodies.write_text("\n".join(json.dumps(one) for one in asked))
    script = home / f"{name}.lua"
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
    targets: Mapping[str, tuple[str, Path]], connections: int, seconds: int, rounds: int
) -> dict[str, Measured]:
    for url, script in targets.values():
        load(url, script, connections, 2)
    runs: list[dict[str, Measured]] = []
    for number in range(rounds):
        print(f"{connections} connections, round {number + 1} of {rounds} ...", flush=True)
        runs.append({name: load(*of, connections, seconds) for name, of in targets.items()})
    return {name: summary(name, runs) for name in targets}


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
    for name, other, target in ((FOUR, ONE, 0.5), (FILTERED, "fused", 0.85)):
        for connections, rows in found.items():
            if name in rows:
                ratio = rows[name]["rps"] / rows[other]["rps"]
                print(f"ratio  {name} / {other}, {connections}: {ratio:.2f} (target {target})")


if __name__ == "__main__":
    main()

"""`python -m serve.demo RUN.toml`: train, evaluate, serve on loopback, ask once, stop."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cluster.cli import run
from cluster.ports import free_ports
from serve.config import PORT
from train.bundle.bundle import Bundle, open_bundle

K = 10
PATIENCE = 300  # seconds: a busy machine takes long to answer and to stop
LIKED = 4.0  # ratings from here on


def main(words: list[str]) -> int:
    """Train, evaluate and serve a run file, and print one answer over HTTP."""
    print("1/3  training, on Ray Train", file=sys.stderr)
    fitted = subprocess.run([sys.executable, "-m", "train", "fit", *words], stdout=subprocess.PIPE)
    if fitted.returncode:
        return fitted.returncode
    report, place = fitted.stdout.decode().rstrip().rsplit("\n", 1)
    bundle = open_bundle(place)
    user_id = _someone(bundle)
    print("2/3  serving, on Ray Serve", file=sys.stderr)
    with _served(place) as url:
        print(f"3/3  POST {url}/recommend", file=sys.stderr)
        answer = _ask(url, {"user_id": user_id, "k": K})
    print(report)
    print(_side_by_side(_liked(bundle, user_id), answer, user_id))
    print(_next_steps(place, user_id))
    return 0


def _someone(bundle: Bundle) -> Any:
    """Return the id of the user with the median history among those who have one."""
    lengths = bundle.recommender.histories.lengths
    known = lengths.nonzero()[0]
    middle = known[lengths[known].argsort(kind="stable")[len(known) // 2]]
    return bundle.recommender.users.external(np.array([middle]))[0]


def _liked(bundle: Bundle, user_id: Any) -> list[str]:
    """Return the titles of the user's newest interactions, of those rated 4 or more if any are."""
    from train.config import Run

    events = Run.model_validate(bundle.manifest["config"]).data.load().interactions
    own = events.filter(pc.equal(events["user_id"], user_id)).sort_by("timestamp")
    liked = own.filter(pc.greater_equal(own["weight"], LIKED))
    index = bundle.recommender.items.index((liked if len(liked) else own)["item_id"])[::-1][:K]
    titles = (
        bundle.recommender.titles.take(index).to_pylist()
        if bundle.recommender.titles is not None
        else []
    )
    names = zip(
        titles or [None] * len(index), bundle.recommender.items.external(index), strict=True
    )
    return [str(title or item_id) for title, item_id in names]


@contextlib.contextmanager
def _served(place: str) -> Iterator[str]:
    """Serve a bundle at a free port of this machine; yield its URL once it answers."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "serve", place, "--port", str(port), "--address", "local"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        # Ray's processes print to the same pipe.
        if not any(line.startswith(b"serving bundle") for line in server.stdout):
            raise OSError(f"the server ended with {server.wait()} before it answered")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=PATIENCE)


def _ask(url: str, question: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(question).encode()
    request = urllib.request.Request(f"{url}/recommend", body, {"Content-Type": "application/json"})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        answer: dict[str, Any] = json.load(response)
    answer["milliseconds"] = 1000 * (time.perf_counter() - began)
    return answer


def _side_by_side(liked: list[str], answer: dict[str, Any], user_id: Any) -> str:
    from rich.console import Console
    from rich.table import Table

    title = f"User {user_id}: one request over HTTP, {answer['milliseconds']:.0f} ms"
    table = Table(title=title)
    table.add_column("liked before (newest first)")
    table.add_column(f"recommended ({answer['source']})")
    table.add_column("score", justify="right")
    for row, item in enumerate(answer["items"]):
        old = liked[row] if row < len(liked) else ""
        table.add_row(old, item.get("title", str(item["item_id"])), f"{item['score']:.3f}")
    console = Console(width=110)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _next_steps(place: str, user_id: Any) -> str:
    return "\n".join(
        [
            "Next:",
            f"  .venv/bin/python -m train recommend {place} --user-id {user_id} --k 10",
            "  .venv/bin/python -m train fit train/presets/demo.toml --name wide --tower.width 64",
            f"  .venv/bin/python -m serve {place}",
            f"and, while that runs, the page: http://127.0.0.1:{PORT}/",
        ]
    )


if __name__ == "__main__":
    run(main)

"""`python -m serve BUNDLE`: a bundle over HTTP on loopback until Ctrl-C."""

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

from cluster import nodes
from cluster.cli import run
from cluster.verbosity import set_up, taken
from serve.config import Process, ServeArgs, check_port, environment
from train.bundle import bundle

APPLICATION = "raytower"
logger = logging.getLogger("serve")


class Arguments(Process, ServeArgs):
    """Serve a bundle over HTTP until Ctrl-C; -q logs warnings alone, -v what Ray Serve does too.

    Attributes:
        bundle: a bundle's folder, a run's folder (its newest bundle) or the URI of either.
    """

    bundle: Positional[str]


def main(words: list[str]) -> int:
    """Serve until interrupted; 0 after a clean end. Takes `--version`, `-q` and `-v` too.

    Raises:
        ValueError: the bundle cannot be opened, or the port is in use.
    """
    verbosity, words = taken(words)
    set_up(verbosity, "serve")
    arguments = tyro.cli(Arguments, args=words, prog="python -m serve")
    address = arguments.address or os.environ.get("RAY_ADDRESS") or nodes.running() or "local"
    if address == "local":
        check_port(arguments.host, arguments.port)
    location, manifest = bundle.check(arguments.bundle)
    args = _part(ServeArgs, arguments).model_copy(update={"bundle": location})
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    try:
        # Ray reads these when it is imported and when it starts; what the shell has set stays.
        for name, value in environment(_part(Process, arguments), folder).items():
            os.environ.setdefault(name, value)
        _serve(arguments.model_copy(update={"address": address}), args, manifest["version"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _part(model: Any, arguments: Arguments) -> Any:
    return model(**{name: getattr(arguments, name) for name in model.model_fields})


def _serve(process: Process, args: ServeArgs, version: str) -> None:
    from cluster import session, sight, storage

    stop = _on_signals()
    logger.info("starting Ray ...")
    session.connect(process.address)
    _on_signals(stop)
    sight.check_readable(args.bundle, storage.MANIFEST)

    import ray
    from ray import serve

    from serve.app import build

    more = logger.isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.serve").setLevel(logging.INFO if more else logging.WARNING)
    fresh = not serve.status().proxies
    try:
        if fresh:
            serve.start(http_options={"host": process.host, "port": process.port})
        logger.info("loading the bundle ...")
        serve.run(build(args), name=APPLICATION, route_prefix="/")
        url = f"http://{_reachable(process.host)}:{process.port}"
        if _wait_until_ready(url, stop):
            print(f"serving bundle {version} on {url} (docs: {url}/docs); Ctrl-C stops", flush=True)
        stop.wait()
    finally:
        logger.info("stopping ...")
        if fresh:
            serve.shutdown()
        else:
            serve.delete(APPLICATION)
        ray.shutdown()


def _on_signals(stop: threading.Event | None = None) -> threading.Event:
    """Let SIGINT and SIGTERM set an event; again after Ray has started, which sets its own."""
    event = stop or threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    return event


def _wait_until_ready(url: str, stop: threading.Event, seconds: float = 300.0) -> bool:
    """Wait until the server answers; False where it was stopped before.

    Raises:
        TimeoutError: it does not answer in time.
    """
    end = time.monotonic() + seconds
    while not stop.wait(0.1):
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return True
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{url} does not answer after {seconds:.0f} s: {error}"
                ) from None
    return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)


if __name__ == "__main__":
    run(main)

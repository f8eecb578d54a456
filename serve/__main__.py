"""`python -m serve BUNDLE`: a bundle over HTTP on loopback until Ctrl-C."""

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import tyro
from tyro.conf import Positional

from cluster import local, nodes
from cluster.cli import GRACE, run, stopping
from cluster.head import LOOPBACK_HOST
from cluster.verbosity import set_up, taken
from cluster.vitals import RayEndedError, watched
from serve.config import PORT, Process, ServeArgs, check_port, checked, environment
from train.bundle import bundle

logger = logging.getLogger("serve")
# Seconds between looks at whether Ray Serve still runs.
LOOK = 5.0


class Arguments(Process, ServeArgs):
    """Serve a bundle over HTTP until Ctrl-C; -q logs warnings alone, -v what Ray Serve does too.

    Attributes:
        bundle: a bundle's folder, a run's folder (its newest bundle) or the URI of either.
    """

    bundle: Positional[str]


def main(words: list[str]) -> int:
    """Serve until interrupted; 0 after a clean end. Takes `--version`, `-q` and `-v` too.

    `keys` and `batch` as the first word are other commands; see `serve.keys`, `serve.batch`.

    Raises:
        ValueError: the bundle cannot be opened, the port or the name is in use, it would be open to
            strangers, or a replica cannot start.
    """
    if words[:1] == ["keys"]:
        from serve.keys import main as keys

        return keys(words[1:])
    verbosity, words = taken(words)
    set_up(verbosity, "serve")
    if words[:1] == ["batch"]:
        from serve.batch.command import main as batch

        return batch(words[1:])
    arguments = tyro.cli(Arguments, args=words, prog="python -m serve")
    address = arguments.address or os.environ.get("RAY_ADDRESS") or nodes.running() or "local"
    process = _part(Process, arguments).model_copy(update={"address": address})
    args = checked(process, _part(ServeArgs, arguments))
    location, manifest = bundle.check(args.bundle)
    args = args.model_copy(update={"bundle": location})
    with _environment(process):
        _serve(process, args, manifest["version"])
    return 0


def _part(model: Any, arguments: Arguments) -> Any:
    return model(**{name: getattr(arguments, name) for name in model.model_fields})


@contextlib.contextmanager
def _environment(process: Process) -> Iterator[None]:
    """Set what a Ray that is started here reads when it is imported, and when it starts."""
    if process.address != "local":
        yield
        return
    # What a killed server left, which may hold the port, is swept before that is looked at.
    local.folder()
    check_port(process.host, process.port)
    if process.metrics_port:
        check_port(LOOPBACK_HOST, process.metrics_port)
    folder = local.haproxy_folder()
    try:
        for name, value in environment(process, folder).items():
            # What the shell has set stays.
            os.environ.setdefault(name, value)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(process: Process, args: ServeArgs, version: str) -> None:
    from cluster import environment as of_ray
    from cluster import session, sight, storage

    of_ray.prepare()
    import ray

    logger.info("starting Ray ..." if process.address == "local" else "joining Ray ...")
    # Ray's start is waiting, for the most part, in which what is needed next is imported.
    threading.Thread(target=import_module, args=("serve.starting",), daemon=True).start()
    session.connect(process.address, metrics_port=process.metrics_port)
    sight.check_readable(args.bundle, storage.MANIFEST)

    from serve.starting import wait_until_ready

    more = logger.isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.serve").setLevel(logging.INFO if more else logging.WARNING)
    try:
        with _claimed(process), _deployed(process, args) as url:
            wait_until_ready(process.name, url, process.start_timeout)
            for place in _metrics():
                logger.info("metrics for Prometheus: %s", place)
            with stopping() as told:
                said = f"serving bundle {version} on {url} (docs: {url}/docs); Ctrl-C stops"
                print(said, flush=True)
                _watch(told)
    finally:
        ray.shutdown()


def _claimed(process: Process) -> contextlib.AbstractContextManager[None]:
    """Hold the application's name on a Ray that others join."""
    from serve.owner import claimed

    if process.address == "local":
        return contextlib.nullcontext()
    return claimed(process.name, process.prefix)


@contextlib.contextmanager
def _deployed(process: Process, args: ServeArgs) -> Iterator[str]:
    """Deploy the application, yield its URL, and end it, and Ray Serve if nobody needs it."""
    from ray import serve

    from serve.owner import OUR_SERVE, OWNER, details, ours_alone, this_process
    from serve.starting import deploy, start_serve

    running = details()
    if not running:
        # HAProxy listens at the host; the replicas behind it, and Ray's own proxy, on loopback.
        inside = process.haproxy and process.address == "local"
        host = LOOPBACK_HOST if inside else process.host
        tracing = {"enabled": True} if process.tracing else None
        start_serve(http_options={"host": host, "port": process.port}, tracing_config=tracing)
    ours = not running or ours_alone(running["applications"])
    marks = {OWNER: this_process()} | ({OUR_SERVE: "1"} if ours else {})
    try:
        url = _url(process, details()["http_options"], joined=bool(running))
        logger.info("loading the bundle ...")
        deploy(args, process.name, process.prefix, marks)
        yield url
    finally:
        logger.info("stopping ...")
        if ours and not set(details().get("applications", {})) - {process.name}:
            serve.shutdown()
        else:
            serve.delete(process.name)


def _metrics() -> list[str]:
    """Return where each node of this Ray tells Prometheus its metrics."""
    import ray

    places = [(node["NodeManagerAddress"], node["MetricsExportPort"]) for node in ray.nodes()]
    return [f"http://{host}:{port}/metrics" for host, port in places]


def _url(process: Process, listening: dict[str, Any], joined: bool) -> str:
    """Return where an application answers: where Ray Serve listens, once it runs.

    Raises:
        ValueError: another port was asked for.
    """
    host, port = listening["host"] if joined else process.host, listening["port"]
    if process.port not in (PORT, port):
        raise ValueError(
            f"Ray Serve of this cluster listens on {host}:{port} already, and all its applications "
            f"there; leave --port {process.port} out"
        )
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(
        host, f"[{host}]" if ":" in host else host
    )
    scheme = "http" if process.tls is None else "https"
    return f"{scheme}://{reachable}:{port}{process.prefix.rstrip('/')}"


def _watch(told: threading.Event) -> None:
    """Wait until this process is told to stop.

    Raises:
        RayEndedError: Ray Serve has ended.
    """
    from serve.owner import details

    with watched("Start the service again."):
        while not told.wait(LOOK):
            if not details() and not told.is_set():
                raise RayEndedError("Ray Serve has ended. Start the service again.")


if __name__ == "__main__":
    run(main, grace=GRACE)

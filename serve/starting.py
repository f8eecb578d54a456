"""The start of an application: whether there is room, and waiting until it answers."""

import logging
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve

from serve.app import application
from serve.config import ServeArgs
from serve.owner import details

logger = logging.getLogger(__name__)

# It asks its own service by an address of this machine, which is in no certificate.
_OWN = ssl.create_default_context()
_OWN.check_hostname, _OWN.verify_mode = False, ssl.CERT_NONE

# Seconds after which somebody who waits is told what for.
SILENCE = 15.0
# Of a traceback, what comes after the last line of code: the error itself.
_CODE = re.compile(r"\n(?:[ \t].*\n)+")
_PATH = re.compile(r"^(?:\w+\.)+(?=\w+: )")


def start_serve(**options: Any) -> None:
    """Start Ray Serve, and return once it takes applications.

    That is before its proxy listens, which takes as long as a replica does, and starts beside them.

    Args:
        options: those of `serve.start`.
    """
    failed: list[Exception] = []

    def start() -> None:
        try:
            serve.start(**options)
        except Exception as error:
            failed.append(error)

    threading.Thread(target=start, daemon=True).start()
    while not details():
        if failed:
            raise failed[0]
        time.sleep(0.05)


def deploy(args: ServeArgs, name: str, prefix: str, marks: Mapping[str, str]) -> None:
    """Deploy an application, and do not wait for it.

    Args:
        args: its settings.
        name: of the application.
        prefix: of its routes.
        marks: environment variables of its replicas.

    Raises:
        ValueError: its replicas never fit the nodes of this Ray.
    """
    built = application(args, marks)
    _check_room(built)
    serve.run_many(
        [serve.RunTarget(built, name=name, route_prefix=prefix)],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def wait_until_ready(name: str, url: str, seconds: float) -> None:
    """Wait until an application answers, and say why it does not yet.

    Raises:
        ValueError: a replica cannot start; the message is the replica's own.
        TimeoutError: it does not answer in time.
    """
    begun = told = time.monotonic()
    failed = ""
    while True:
        state = details().get("applications", {}).get(name)
        reason = _reason(state)
        if state and state["status"] == "DEPLOY_FAILED":
            raise ValueError(f"a replica cannot start: {reason or state['message']} (-v: more)")
        if reason and reason != failed:
            failed = reason
            logger.warning("a replica did not start, once more: %s", reason)
        if state and state["status"] == "RUNNING" and _answers(url):
            return
        now = time.monotonic()
        if now - begun > seconds:
            raise TimeoutError(
                f"{url} does not answer after {seconds:.0f} s; {_waiting(state)}. More time: "
                "--start-timeout"
            )
        if now - told > SILENCE:
            told = now
            logger.info("%s does not answer after %.0f s: %s", name, now - begun, _waiting(state))
        time.sleep(0.2)


def _check_room(built: serve.Application) -> None:
    """Raise ValueError where not all replicas fit the nodes, though nothing else ran there."""
    config: Any = built._bound_deployment
    count = config.num_replicas or 1
    share = float((config.ray_actor_options or {}).get("num_cpus", 1.0))
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    if sum(int(cpus / share + 1e-9) for cpus in nodes) < count:
        have = "; ".join(f"{cpus:g}" for cpus in nodes)
        raise ValueError(
            f"{count} replicas with {share:g} CPUs each do not fit: the nodes of this Ray have "
            f"{have} CPUs; lower --replicas or --cpus"
        )


def _reason(state: Mapping[str, Any] | None) -> str:
    """Return the error with which a replica failed last, in a line; "" if none did."""
    for deployment in (state or {}).get("deployments", {}).values():
        message = str(deployment["message"])
        if "Error:" in message:
            logger.debug("%s", message)
            return _PATH.sub("", _CODE.split(message)[-1].strip())
    return ""


def _waiting(state: Mapping[str, Any] | None) -> str:
    """Return what an application waits for, in words."""
    if state is None or not state["deployments"]:
        return "Ray Serve has not begun with it"
    counts = []
    for name, deployment in state["deployments"].items():
        running = sum(replica["state"] == "RUNNING" for replica in deployment["replicas"])
        wanted = deployment["target_num_replicas"]
        counts.append(f"{running} of {wanted} replicas of {name} run")
    free = ray.available_resources().get("CPU", 0.0)
    share = ", ".join(
        f"{deployment['required_resources'].get('CPU', 0):g}"
        for deployment in state["deployments"].values()
    )
    return f"{', '.join(counts)}; each takes {share} CPUs, {free:g} are free"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5, context=_OWN):
            return True
    except (urllib.error.URLError, OSError):
        return False

"""Which process an application of Ray Serve belongs to, where several processes share a Ray."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.serve.context import _get_global_client

logger = logging.getLogger(__name__)

NAMESPACE = "raytower"
# In the environment of replicas: the process that deployed them, and whether one of ours started
# the Ray Serve that they run on.
OWNER, OUR_SERVE = "RAYTOWER_OWNER", "RAYTOWER_OUR_SERVE"


class Owner:
    """An actor that ends with the process that owns an application, whose name it holds."""

    def __init__(self, process: str) -> None:
        self._process = process

    def process(self) -> str:
        """Return who the owner is."""
        return self._process


def this_process() -> str:
    """Return this process in words."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def details() -> dict[str, Any]:
    """Return what Ray Serve says of itself; empty where it does not run on the Ray of this process.

    As `GET /api/serve/applications/` of Ray's dashboard does, which needs no dashboard here.
    """
    client = _get_global_client(raise_if_no_controller_running=False)
    return {} if client is None else dict(client.get_serve_details())


@contextlib.contextmanager
def claimed(name: str, prefix: str) -> Iterator[None]:
    """Hold the name of an application; only this process deploys and ends it meanwhile.

    What a process left that was killed is taken over.

    Raises:
        ValueError: another process holds it, or an application that is not ours has the name or
            the prefix.
    """
    holder = _hold(name)
    try:
        _check_free(name, prefix, details().get("applications", {}))
        yield
    finally:
        if ray.is_initialized():
            ray.kill(holder)


def _hold(name: str) -> Any:
    """Return the actor that holds a name; it ends with this process, however that ends."""
    actor: Any = ray.remote(Owner)
    place = {"name": f"serve {name}", "namespace": NAMESPACE}
    try:
        holder = actor.options(num_cpus=0, **place).remote(this_process())
    except ValueError:
        with contextlib.suppress(ray.exceptions.RayActorError):
            theirs: Any = ray.get(ray.get_actor(**place).process.remote())
            raise ValueError(
                f"application {name!r} of this cluster is served by {theirs}; serve beside it "
                "under another name: --name NAME"
            ) from None
        raise
    ray.get(holder.process.remote())
    return holder


def _check_free(name: str, prefix: str, running: Mapping[str, Any]) -> None:
    """Raise ValueError where the name or the prefix is that of an application which stays."""
    for other, found in running.items():
        owner = owner_of(found)
        if other == name and owner is None:
            raise ValueError(
                f"application {name!r} runs on this cluster and was not started by `python -m "
                "serve`; take another name (--name NAME), or end it with Ray's own commands"
            )
        if other != name and found["route_prefix"] == prefix:
            raise ValueError(
                f"application {other!r} answers at {prefix} on this cluster; take another name, "
                "which gives another prefix: --name NAME"
            )
        if other == name:
            logger.warning("taking over application %r of %s, which is gone", name, owner)


def owner_of(application: Mapping[str, Any]) -> str | None:
    """Return the process that deployed an application, None if `python -m serve` did not."""
    return _environment(application).get(OWNER)


def ours_alone(applications: Mapping[str, Any]) -> bool:
    """Whether one of ours started the Ray Serve of these, so that the last of us ends it."""
    return any(OUR_SERVE in _environment(found) for found in applications.values())


def _environment(application: Mapping[str, Any]) -> Mapping[str, str]:
    variables: dict[str, str] = {}
    for deployment in application["deployments"].values():
        options = deployment["deployment_config"].get("ray_actor_options") or {}
        variables |= (options.get("runtime_env") or {}).get("env_vars") or {}
    return variables

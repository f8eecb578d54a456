"""The connection of a process to Ray, and the resources of a training run."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from cluster import environment, local, shipping, token
from cluster.head import LOOPBACK_HOST, check_answers, prepare_to_join
from cluster.nodes import running

if TYPE_CHECKING:
    from ray.train import ScalingConfig

logger = logging.getLogger(__name__)

# A node has 15 to 30 s for its parts to start, which no setting of Ray's changes; on a machine that
# does much else these can be too few.
STARTS = 3


@dataclass(frozen=True)
class Session:
    """The Ray cluster that this process is connected to.

    Attributes:
        address: `host:port` of its head.
        started: whether this call of `connect` started it; it ends with this process.
        joined: whether this call connected this process, which had no Ray before.
        cpus: of all its nodes together.
        gpus: of all its nodes together.
    """

    address: str
    started: bool
    joined: bool
    cpus: float
    gpus: float

    def leave(self) -> None:
        """Disconnect this process, and end a Ray that was started for it, unless it had one before.

        What needs no Ray any more goes on without it, whatever happens to it.
        """
        import ray

        if self.joined:
            with _sigterm_kept():
                ray.shutdown()


def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    dashboard: bool = False,
    worker_output: bool = False,
    metrics_port: int = 0,
) -> Session:
    """Join a Ray, or start one on this machine that ends with this process and stays on loopback.

    Joins `address`, else `RAY_ADDRESS`, else the head that `python -m cluster start` left running;
    "local" always starts one. A process has one Ray: a second call returns the same.

    Args:
        address: `host:port` of a head, "auto" (Ray looks for one here) or "local".
        num_cpus: CPUs of a Ray that is started; as many as the machine has by default.
        num_gpus: GPUs of a Ray that is started, likewise.
        dashboard: whether a Ray that is started has one, at a free port. Ray needs it to clean up
            after Train runs that Tune stops.
        worker_output: whether what workers print appears here.
        metrics_port: where a Ray that is started tells Prometheus its metrics; 0 takes a free port.

    Raises:
        ValueError: the address is of another form.
        ConnectionError: nothing answers at the address.
        PermissionError: the head expects another token.
    """
    environment.prepare()
    import ray

    target = None if ray.is_initialized() else _target(address)
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": worker_output}
    with _sigterm_kept():
        if target == "local":
            sizes = {"num_cpus": num_cpus, "num_gpus": num_gpus}
            # Ray's name for it has an underscore; there is no other way to say where.
            port = {"_metrics_export_port": metrics_port} if metrics_port else {}
            _start(options | sizes | port, dashboard)
        elif target:
            _join(target, options)
    resources = ray.cluster_resources()
    return Session(
        address=ray.get_runtime_context().gcs_address,
        started=target == "local",
        joined=target is not None,
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
    )


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Give SIGTERM back to whom it was before: Ray takes it, to exit with another code."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _target(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or running() or "local"


def _start(options: Mapping[str, Any], dashboard: bool) -> None:
    environment.stay_on_loopback()
    token.make()
    folder = local.folder()
    import ray

    # Ray would warn that it turned tokens on; here that is as it should be.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    ours: dict[str, Any] = {
        "include_dashboard": dashboard,
        "dashboard_host": LOOPBACK_HOST,
        "_temp_dir": str(folder),
    }
    for attempt in range(1, STARTS + 1):
        try:
            with _any_agent_port():
                ray.init("local", dashboard_port=0, **ours, **options)
            return
        except Exception as error:  # Ray raises no class of its own here
            if "timed out" not in str(error) or attempt == STARTS:
                raise
            logger.warning("Ray did not start in the time that it gives itself; once more")
            ray.shutdown()


@contextlib.contextmanager
def _any_agent_port() -> Iterator[None]:
    """Let the agent of a Ray that is started take any port.

    Each takes 52365 otherwise, for which that of a second Ray on a machine waits 3.4 s in vain;
    only `ray start` has an option for it.
    """
    parameter: Any = import_module("ray._private.parameter")
    before = parameter.RayParams
    parameter.RayParams = partial(before, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        parameter.RayParams = before


def _join(target: str, options: Mapping[str, Any]) -> None:
    import ray

    if target != "auto":
        check_answers(target)
    prepare_to_join(target)
    # A job's workers have the checkout already: it came with the job.
    with contextlib.ExitStack() as shipped, token.explained(target):
        runtime_env = None if environment.in_job() else shipped.enter_context(shipping.checkout())
        ray.init(address=target, runtime_env=runtime_env, **options)


def scaling(
    workers: int,
    gpu: bool | Literal["auto"] = "auto",
    *,
    cpus: float = 1,
    wait: bool = False,
) -> "ScalingConfig":
    """Return the scaling configuration of a training run on the Ray of this process.

    Each worker takes `cpus` CPUs (Ray gives it as many threads) and one GPU or none; the
    driver takes nothing.

    Args:
        workers: number of workers; 0 runs the loop in this process, without Ray's workers.
        gpu: a GPU for each worker; "auto" is whether there are any.
        cpus: CPUs of each worker.
        wait: whether nodes may join, or an autoscaler add them, so that nothing is refused.

    Raises:
        ValueError: even idle, the nodes have no room for so many workers: Ray would wait forever.
    """
    from ray.train import ScalingConfig

    if workers < 0:
        raise ValueError(f"expected 0 workers (this process) or more, got {workers}")
    if workers == 0:
        return ScalingConfig(num_workers=0, use_gpu=gpu is True)
    nodes = _nodes()
    use_gpu = any(node.get("GPU", 0) for node in nodes) if gpu == "auto" else gpu
    worker = {"CPU": cpus} | ({"GPU": 1.0} if use_gpu else {})
    room = sum(
        int(min(node.get(name, 0) // need for name, need in worker.items())) for node in nodes
    )
    if room < workers and not wait:
        raise ValueError(_no_room(workers, worker, nodes, room))
    return ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=worker)


def check_room(need: Mapping[str, float], what: str) -> None:
    """Check that some node of the Ray of this process has the resources, once it is idle.

    Args:
        need: `cpu` and `gpu`.
        what: name of what needs them, for the message.

    Raises:
        ValueError: none has, and Ray would wait forever.
    """
    nodes = _nodes()
    if any(all(node.get(k.upper(), 0.0) >= count for k, count in need.items()) for node in nodes):
        return
    asked = " and ".join(f"{count:g} {name.upper()}" for name, count in need.items() if count)
    raise ValueError(
        f"{what} needs {asked}, and no node of this Ray has that; they have {_resources(nodes)}: "
        "ask for less, or join a larger Ray with --address"
    )


def _resources(nodes: list[dict[str, float]]) -> str:
    return "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _no_room(
    workers: int, worker: Mapping[str, float], nodes: list[dict[str, float]], room: int
) -> str:
    need = " and ".join(f"{count:g} {name}" for name, count in worker.items())
    return (
        f"{workers} workers with {need} each do not fit: the nodes of this Ray have "
        f"{_resources(nodes)}, which "
        f"is room for {room}; lower workers, set gpu = false, join a larger "
        "Ray with --address, or, where nodes are still to join, set train.wait = true"
    )

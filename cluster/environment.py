"""Environment variables that Ray reads once, when its processes start, and their values here.

Each is a default: a value that the shell has set already stays. Processes of a Ray that is started
here inherit them; a Ray that is joined keeps its own, except those of Train, which travel with a
run.
"""

import os
import sys
from collections.abc import Mapping

DEFAULTS: Mapping[str, str] = {
    # Seconds. Every report with a checkpoint waits for one interval, and with Ray's 2 a worker
    # that is killed in between can take the newest checkpoint with it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Ray Train would log what a worker prints, and print it too.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Ray starts its workers at nice 15; serving beside any other work then starves.
    "RAY_worker_niceness": "0",
    # Asking for zero GPUs hides them from a worker, as Ray warns that it will from some version on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Nothing is sent to anybody unless asked.
    "RAY_USAGE_STATS_ENABLED": "0",
}

# Read by Ray Serve where the head starts. With its own proxy and settings it answers a tenth of the
# requests.
SERVE: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}

# A Ray of one machine needs no other interface. Without this one Ray picks the machine's outward
# address even where 127.0.0.1 is asked for; it is the switch that keeps laptops on loopback.
LOOPBACK: Mapping[str, str] = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
}


def in_job() -> bool:
    """Return whether this process is the command of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def calm_openmp() -> None:
    """Let OpenMP's idle threads sleep soon; call it before torch is imported, which reads it.

    They wait for work in a spin loop, and take the time of other processes: a training step of
    27 ms took 75. After 1,000 turns instead of GNU's 300,000 they sleep, which costs nothing on an
    idle machine. Nothing is set where the shell says how they wait.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def prepare() -> None:
    """Set the defaults in this process and those that it starts; call it before Ray starts."""
    calm_openmp()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def stay_on_loopback() -> None:
    """Bind Ray's processes to 127.0.0.1 alone; values that the shell has set stay."""
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)
    from ray._private import ray_constants

    # Ray read the switch when it was imported, which may have been before this.
    ray_constants.ENABLE_RAY_CLUSTER = os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] != "0"

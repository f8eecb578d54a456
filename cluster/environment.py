"""Environment variables that Ray reads once, when its processes start, and their values here.

Each is a default: a value that the shell has set already stays. Processes of a Ray that is started
here inherit them; a Ray that is joined keeps its own, except those of Train, which travel with a
run.
"""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping

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


def use_token() -> None:
    """Send this machine's token, if it has one, to the Ray that is joined next.

    Ray does so by itself for a Ray that it finds, and not for one by its address.
    """
    from ray._private.authentication import authentication_token_setup as setup

    # Ray would warn that tokens are on; here that is as it should be.
    logging.getLogger(setup.__name__).setLevel(logging.ERROR)
    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextlib.contextmanager
def explained_token(target: str) -> Iterator[None]:
    """Raise one PermissionError for Ray's many errors about a wrong token.

    Raises:
        PermissionError: the Ray at `target` expects another token.
    """
    try:
        yield
    except Exception as error:
        # It may be the cause of Ray's exception, or a part of its text alone; what all have in
        # common is the page that they point to.
        if "token-auth" not in "".join(traceback.format_exception(error)):
            raise
        raise PermissionError(
            f"the Ray at {target} expects another token than this machine has: put its token into "
            "~/.ray/auth_token, or the name of its file into RAY_AUTH_TOKEN_PATH"
        ) from error

"""Waiting in tests: for a condition to hold, however slow the machine is."""

import time
from collections.abc import Callable, Mapping

BOUND = 600.0
"""Seconds after which something hangs: no busy machine needs as many for what tests wait for."""

PATIENCE: Mapping[str, str] = {
    # How long Ray waits for processes of its own, in seconds (its defaults: 60, 30, 5 and 10).
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "600",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
"""Settings of Ray for a busy machine, read where its processes start."""


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait until a condition holds.

    Args:
        holds: whether it does, asked ten times a second.
        what: is waited for, for the message.

    Raises:
        AssertionError: it does not hold after `BOUND` seconds.
    """
    end = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < end, f"waited {BOUND:.0f} s in vain for {what}"
        time.sleep(0.1)

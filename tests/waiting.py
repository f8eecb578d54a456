"""Waiting in tests: for a condition to hold, however slow the machine is."""

import time
from collections.abc import Callable

BOUND = 600.0
"""Seconds after which something hangs: no busy machine needs as many for what tests wait for."""


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

"""How far long work is, said every few seconds."""

import logging
import time

# Seconds between two lines.
PAUSE = 5.0


class Progress:
    """Says how many of all are done, how many a second, and how long the rest will take.

    Nothing is said of work that is done before.

    Args:
        logger: to say it.
        phase: that the work is of, which a line begins with; empty for none.
        total: in all.
        unit: what is counted.
    """

    def __init__(self, logger: logging.Logger, phase: str, total: int, unit: str = "users") -> None:
        self._logger, self._phase, self._total = logger, f"{phase}: " if phase else "", total
        self._unit = unit
        self._done = self._first = 0
        self._begun = self._said = 0.0

    def add(self, count: int) -> None:
        """Count what is done; the first ones, in whose time the work began, have no rate."""
        now = time.monotonic()
        self._done += count
        if not self._first:
            self._first, self._begun, self._said = self._done, now, now
        if now - self._said < PAUSE or self._done >= self._total:
            return
        self._said = now
        rate = (self._done - self._first) / (now - self._begun)
        self._logger.info(
            "%s%s of %s %s, %s/s, %.1f min left",
            self._phase,
            f"{self._done:,}",
            f"{self._total:,}",
            self._unit,
            f"{rate:,.0f}",
            (self._total - self._done) / rate / 60,
        )

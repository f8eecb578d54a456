"""Seconds that the parts of a run take."""

import time


class Laps:
    """A clock of parts that follow one another.

    Attributes:
        seconds: of each part by name, in the order in which they ended.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def end(self, part: str) -> None:
        """Say that a part ends now, and that the next one begins."""
        now = time.monotonic()
        self.seconds[part] = round(self.seconds.get(part, 0.0) + now - self._last, 2)
        self._last = now

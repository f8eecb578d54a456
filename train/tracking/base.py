"""Base class of the trackers of a fit."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from train.core.settings import Settings


class Tracker:
    """What a fit tells of itself; this one keeps nothing of it. As a context it sees the end."""

    def begin(self, config: Mapping[str, Any]) -> None:
        """Take the resolved settings; training follows."""

    def epoch(self, phase: str, row: Mapping[str, Any]) -> None:
        """Take the metrics of an epoch as it ends."""

    def curve(self, phase: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take all epochs of a phase that is over, those of an earlier process too."""

    def results(self, place: str, manifest: str) -> None:
        """Take the bundle at a path or URI, and the text of its manifest."""

    def report(self, page: str) -> None:
        """Take the report at a path or URI."""

    def child(
        self,
        name: str,
        settings: Mapping[str, Any],
        values: Mapping[str, float],
        curve: Sequence[Mapping[str, Any]],
        failed: str | None,
    ) -> None:
        """Take one of many runs that this one is made of, which is over.

        Args:
            name: of it.
            settings: what is its own.
            values: its results, by name.
            curve: a row an epoch.
            failed: why it has no results, if so.
        """

    def end(self, error: type[BaseException] | None) -> None:
        """Take how the fit ended."""

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.end(kind)


class Tracking(Settings):
    """Where a fit is logged."""

    name: str

    def tracker(self, run: str, home: str) -> Tracker:
        """Return what logs the run of a name whose files lie in the folder or URI `home`.

        Raises:
            ValueError: it cannot log; the message says why.
        """
        raise NotImplementedError


class NoTracking(Tracking):
    """Nowhere."""

    name: Literal["none"] = "none"

    def tracker(self, run: str, home: str) -> Tracker:
        """Return what keeps nothing."""
        return Tracker()

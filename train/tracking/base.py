"""The protocol of a tracker: settings, curves, metrics and files of a fit, logged elsewhere."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from train.core.settings import Settings


class Tracker:
    """Logger of a run's settings, learning curves, metrics and files; this one logs nothing.

    As a context manager it logs how the run ended.
    """

    def begin(self, config: Mapping[str, Any]) -> None:
        """Log the resolved settings, before training."""

    def epoch(self, phase: str, row: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch as it ends."""

    def curve(self, phase: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log all epochs of a completed phase, those of an interrupted process too."""

    def results(self, place: str, manifest: str) -> None:
        """Log the bundle at a path or URI, and the text of its manifest."""

    def report(self, page: str) -> None:
        """Log the HTML report at a path or URI."""

    def child(
        self,
        name: str,
        settings: Mapping[str, Any],
        values: Mapping[str, float],
        curve: Sequence[Mapping[str, Any]],
        failed: str | None,
    ) -> None:
        """Log a finished child run, such as a trial of a sweep.

        Args:
            name: of the child.
            settings: in which it differs from its parent.
            values: its metrics, by name.
            curve: a row an epoch.
            failed: the reason why it has no metrics, if so.
        """

    def end(self, error: type[BaseException] | None) -> None:
        """Log the status: finished, failed by an error, or killed."""

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.end(kind)


class Tracking(Settings):
    """Settings of a tracker: the table `[tracking]` of a run file."""

    name: str

    def tracker(self, run: str, home: str) -> Tracker:
        """Return the tracker of a run by its name, whose files lie in the folder or URI `home`.

        Raises:
            ValueError: it cannot log; the message says why.
        """
        raise NotImplementedError


class NoTracking(Tracking):
    """No tracking."""

    name: Literal["none"] = "none"

    def tracker(self, run: str, home: str) -> Tracker:
        """Return a tracker that logs nothing."""
        return Tracker()

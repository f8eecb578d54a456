"""Progress of a running sweep: a live table in a terminal, a log line a trial elsewhere."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

import ray.tune

from tune.report.records import Record, ranked
from tune.report.text import called, number, record
from tune.trials.trial import Directions

logger = logging.getLogger(__name__)

ENDED = ("TERMINATED", "ERROR")


class Progress(ray.tune.Callback):
    """A callback of Tune that shows the trials of a sweep."""

    def __init__(self, name: str, directions: Directions, trials: int | None, hours: float | None):
        """Create the callback of a sweep.

        Args:
            name: of the sweep.
            directions: its metrics.
            trials: number of trials, if it is limited.
            hours: limit of the time, if there is one.
        """
        self.name = name
        self.directions = dict(directions)
        self.trials = trials
        self.hours = hours
        self.begun: float | None = None
        self.before = 0
        self.live: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Exclude the terminal and the clock from the state that Tune keeps for a resume."""
        return {**self.__dict__, "live": None, "begun": None}

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Start the clock and, in a terminal, the live table."""
        self.begun = time.monotonic()
        if total_num_samples is not None:
            # A resume may have more of them than the sweep began with.
            self.trials = total_num_samples if total_num_samples < sys.maxsize else None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), refresh_per_second=2)
            self.live.start()

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Count the trials that ended before this process began."""
        if iteration <= 1:
            self.before = sum(one.status in ENDED for one in trials)

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Update the live table."""
        if self.live:
            self.live.update(self.shown(trials))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Log a trial's final values."""
        self._ended(trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Log the reason of a trial's failure."""
        self._ended(trials, trial)

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """Leave the terminal as it was."""
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.stop()
            self.live = None

    def shown(self, trials: list[Any]) -> Any:
        """Return the table of this moment: the best trial so far, and those that run."""
        from rich.table import Table

        rows = self._records(trials)
        running = [self._record(one) for one in trials if one.status == "RUNNING"]
        best = [rows[place] for place in ranked(rows, self.directions)[:1]]
        shown = Table(title=f"{self.name}: {self._where(len(rows))}", title_justify="left")
        for name in ("trial", *self.directions, "epoch", "settings"):
            shown.add_column(name)
        for what, some in (("best", best), ("running", running)):
            for row in some:
                values = [_value(row, name) for name in self.directions]
                said = called(row)
                shown.add_row(f"{row['trial']} {what}", *values, str(row["epochs"] or "-"), said)
        return shown

    def _ended(self, trials: list[Any], trial: Any) -> None:
        if self.live:
            return
        rows = self._records(trials)
        row = self._record(trial)
        # Tune calls before it marks the trial as ended.
        rows += [] if trial.status in ENDED else [row]
        said = called(row)
        where, outcome = self._where(len(rows)), self._outcome(row, rows)
        logger.info("trial %d, %s: %s, %s", row["trial"], where, outcome, said)

    def _outcome(self, row: Record, rows: list[Record]) -> str:
        if not row["values"]:
            return f"failed ({row['reason']})"
        values = ", ".join(f"{name} {number(value)}" for name, value in row["values"].items())
        name = next(iter(self.directions))
        top = rows[ranked(rows, self.directions)[0]]["values"][name]
        epochs = f" after {row['epochs']} epochs" if row["epochs"] else ""
        return f"{values}{epochs} (best {number(top)})"

    def _where(self, done: int) -> str:
        of = f" of {self.trials}" if self.trials else ""
        left = self._seconds_left(done)
        return f"{done}{of} done" + ("" if left is None else f", about {_clock(left)} left")

    def _seconds_left(self, done: int) -> float | None:
        gone = time.monotonic() - (self.begun or time.monotonic())
        new = done - self.before
        by_trials = gone / new * (self.trials - done) if self.trials and new > 0 else None
        by_hours = max(0.0, self.hours * 3600 - gone) if self.hours else None
        return min((left for left in (by_trials, by_hours) if left is not None), default=None)

    def _records(self, trials: list[Any]) -> list[Record]:
        return [self._record(one) for one in trials if one.status in ENDED]

    def _record(self, trial: Any) -> Record:
        # A trial whose process was replaced keeps the file, which then says nothing of its end.
        failed = trial.status == "ERROR" and trial.error_file
        error = Path(trial.error_file).read_text() if failed else None
        return record(trial.config, trial.last_result, error, self.directions)


def _value(row: Record, name: str) -> str:
    return number(row["values"][name]) if row["values"] else "-"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

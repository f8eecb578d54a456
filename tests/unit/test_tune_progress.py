"""What is shown while a sweep runs."""

import copy
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tune.trials.progress import Progress


def trial(number: int, status: str, ndcg: float | None = None, **overrides: Any) -> Any:
    row = {} if ndcg is None else {"ndcg": ndcg, "epoch": 3, "ended": status == "TERMINATED"}
    config = {"trial": number, "overrides": overrides}
    return SimpleNamespace(status=status, config=config, last_result=row, error_file=None)


def progress(**changes: Any) -> Progress:
    settings: dict[str, Any] = {"trials": 8, "hours": None}
    return Progress("names", {"ndcg": "max"}, **settings | changes)


def test_the_live_table_has_the_best_trial_and_those_that_run() -> None:
    trials = [
        trial(1, "TERMINATED", 0.1),
        trial(2, "TERMINATED", 0.3, width=4),
        trial(3, "RUNNING", 0.2, width=5),
        trial(4, "RUNNING"),
        trial(5, "PENDING"),
    ]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(progress().shown(trials))
    lines = capture.get().splitlines()
    assert lines[0].startswith("names: 2 of 8 done")
    rows = [line.replace("│", " ").split() for line in lines if line.startswith("│")]
    assert [row[:2] for row in rows] == [["2", "best"], ["3", "running"], ["4", "running"]]
    assert rows[0][2:] == ["0.3000", "3", "width=4"]
    assert rows[2][2:] == ["-", "-", "the", "run", "as", "it", "is"]


def test_a_line_a_trial_where_nobody_watches(caplog: pytest.LogCaptureFixture) -> None:
    done, failed = trial(1, "TERMINATED", 0.1), trial(2, "RUNNING", width=4)
    with caplog.at_level(logging.INFO, "tune"):
        progress(trials=None).on_trial_complete(1, [done, failed], failed)
    assert caplog.messages == [
        "trial 2, 2 done: failed (it ended before it had reported anything), width=4"
    ]


def test_a_budget_of_hours_says_what_is_left() -> None:
    shown = progress(trials=None, hours=2.0)
    shown.setup()
    assert shown.shown([]).title.startswith("names: 0 done, about 2:00:00 left")


def test_it_can_be_kept_for_a_resume() -> None:
    shown = progress()
    shown.setup()
    kept = copy.copy(shown)  # by what a pickle would hold
    assert (kept.name, kept.trials, kept.begun, kept.live) == ("names", 8, None, None)

"""How far long work is."""

import logging

import pytest

from train.core.progress import PAUSE, Progress


def test_lines_come_every_few_seconds_and_say_what_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr("train.core.progress.time.monotonic", lambda: now)
    progress = Progress(logging.getLogger("here"), "test", 10_000)
    with caplog.at_level("INFO"):
        # The first block took 60 s, in which all that is needed was loaded.
        now += 60
        progress.add(1000)
        for _ in range(8):
            now += PAUSE / 2
            progress.add(1000)
        now += PAUSE
        progress.add(1000)
    assert caplog.messages == [
        "test: 3,000 of 10,000 users, 400/s, 0.3 min left",
        "test: 5,000 of 10,000 users, 400/s, 0.2 min left",
        "test: 7,000 of 10,000 users, 400/s, 0.1 min left",
        "test: 9,000 of 10,000 users, 400/s, 0.0 min left",
    ]

"""A sweep that is interrupted, killed and resumed, on a real Ray, beside another one."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster import cli
from tests.killed_sweep import ending
from tests.sweeps import RUN, records
from tests.waiting import BOUND, wait_until
from tune.__main__ import main
from tune.trials.progress import Progress

if TYPE_CHECKING:
    from cluster.session import Session


@pytest.mark.usefixtures("sweep_folder")
def test_an_interrupted_and_killed_sweep_goes_on_beside_another_one(
    local_ray: "Session",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    Path("run.toml").write_text("page = false\n" + RUN.replace("workers = 2", "workers = 0"))
    space = '[space]\n"train.learning_rate" = { loguniform = [1e-3, 1e-2] }\n'
    settings = 'trials = 8\ntrials_at_once = 2\nscheduler = "none"\n'
    Path("sweep.toml").write_text(f'run = "run.toml"\n{settings}{space}')
    results = Path("runs/sweep").glob

    words = ["sweep.toml", "--address", local_ray.address]
    other = started("-c", WAITING, *words, "--name", "other", "--trials", "2")
    wait_until(lambda: [*Path("runs/other").glob("trials-*/*/")], "a trial of the other sweep")

    with monkeypatch.context() as interrupted, caplog.at_level(logging.INFO, "tune"):
        callback = ending(4, signal.SIGINT)
        interrupted.setattr(Progress, "on_trial_result", callback, raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.run(main, words)
    assert ended.value.code == 130
    assert "to go on: --resume" in caplog.text
    before = records("sweep")
    assert 1 <= len(before) < 5  # the last one or two may not have been written down yet
    contents = finished(results)
    assert 2 <= len(contents) < 5

    killed = started("-m", "tests.killed_sweep", "6", *words, "--resume")
    assert killed.wait(BOUND) == -signal.SIGKILL
    contents |= finished(results)
    assert 4 <= len(contents) < 8

    capsys.readouterr()
    main(["sweep.toml", "--resume"])
    rows = records("sweep")
    assert [row["trial"] for row in rows] == list(range(1, 9))
    assert {row["state"] for row in rows} == {"finished"}
    assert [row for row in rows if row["trial"] in {one["trial"] for one in before}] == before
    # A kill may lose what Tune wrote of an epoch, but no trial loses it from its curve.
    assert all([point["epoch"] for point in row["curve"]] == [1, 2, 3] for row in rows)
    assert all(row["seconds"] > 0 for row in rows)
    # Nothing that had ended ran again: at most it says once more what it had said.
    now = finished(results)
    values = {row["trial"]: row["values"]["ndcg"] for row in rows}
    for path, text in contents.items():
        assert now[path].startswith(text)
        last, before_that = reports(now[path])[-1], reports(text)[-1]
        assert len(reports(now[path])) <= len(reports(text)) + 2
        assert values[last["config"]["trial"]] == last["ndcg"] == before_that["ndcg"]
    # Nor did the search begin anew: its trials differ.
    assert len({json.dumps(row["overrides"]) for row in rows}) == 8
    # It takes more trials, and the search goes on; fewer than there are, it refuses.
    with caplog.at_level(logging.INFO, "tune"):
        main(["sweep.toml", "--resume", "--trials", "10"])
    more = records("sweep")
    assert [row["trial"] for row in more] == list(range(1, 11))
    assert more[:8] == rows
    assert len({json.dumps(row["overrides"]) for row in more}) == 10
    assert "10 of 10 done" in caplog.text
    with pytest.raises(SystemExit):
        cli.run(main, ["sweep.toml", "--resume"])
    assert "sweep was begun with 10 trials; a resume takes more, got 8" in capsys.readouterr().err
    # Another one, which was in its first trials all the while, went its way on the same Ray.
    assert other.poll() is None
    Path("go").touch()
    assert other.wait(BOUND) == 0
    assert len(records("other")) == 2

    Path("sweep.toml").write_text(Path("sweep.toml").read_text().replace("1e-3", "1e-4"))
    with pytest.raises(SystemExit):
        cli.run(main, ["sweep.toml", "--resume", "--trials", "10"])
    assert "is another sweep (sweep.space.train.learning_rate" in capsys.readouterr().err


# A sweep whose trials wait for the file `go` in the folder where it was started.
WAITING = """
import functools, time
from pathlib import Path
from cluster.cli import run
from tune.__main__ import main
from tune.trials import tuner

measure, go = tuner.trial, Path("go").absolute()

@functools.wraps(measure)
def trial(*config, **given):
    while not go.exists():
        time.sleep(0.1)
    measure(*config, **given)

tuner.trial = trial
run(main)
"""


def started(*words: str) -> "subprocess.Popen[bytes]":
    """Start Python in this folder; what it says is in pytest's captured output."""
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, *words], env=os.environ | {"PYTHONPATH": str(root)})


def finished(glob: Callable[[str], Any]) -> dict[Path, str]:
    """Return the reports of the trials that have said that they ended."""
    texts = {path: path.read_text() for path in glob("trials-*/*/result.json")}
    return {path: text for path, text in texts.items() if '"ended": true' in text}


def reports(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]

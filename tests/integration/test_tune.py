"""Sweeps on generated data: real trials on a real Ray, through the command line's main."""

import json
import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cluster.command import run as command
from train.config import Run, read_run
from train.fit import prepare
from train.loop import World, train
from tune import search
from tune.__main__ import main
from tune.config import Sweep
from tune.report import Record
from tune.spaces import override
from tune.trial import trial, varied

if TYPE_CHECKING:
    from cluster.session import Session

RUN = """
name = "small"
tower = { name = "two_tower", width = 8, history = 20 }
[data]
name = "generated"
users = 200
items = 120
interactions = 5000
[train]
workers = 2
batch_size = 128
epochs = 3
"""
SWEEP = """
run = "run.toml"
trials = 4
seed = 5
[space]
train.learning_rate.choice = [0.01, 1e30]
loss.choice = [
    { name = "in_batch_softmax", temperature = { uniform = [0.5, 2] } },
    { name = "sampled_softmax" },
]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: "Session") -> Path:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(RUN)
    Path("sweep.toml").write_text(SWEEP)
    return tmp_path


def records(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(f"runs/{name}/trials.json").read_text())
    return found


def test_a_sweep_finds_the_best_of_its_trials_and_outlives_the_others(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def dying(config: Mapping[str, Any], **given: Any) -> None:
        if config["overrides"]["loss"]["name"] == "sampled_softmax":
            os._exit(1)
        trial(config, **given)

    monkeypatch.setattr(search, "trial", dying)
    with caplog.at_level(logging.INFO, "tune"):
        main(["sweep.toml", "--name", "found"])
    done = [row for row in records("found") if row["state"] != "failed"]
    failed = [row for row in records("found") if row["state"] == "failed"]
    died = [row for row in failed if row["overrides"]["loss"]["name"] == "sampled_softmax"]
    diverged = [row for row in failed if row not in died]
    assert len(done) + len(failed) == 4

    assert died and diverged and done
    assert all("died" in row["reason"] for row in died)
    assert all("the loss is" in row["reason"] for row in diverged)
    assert all(row["overrides"]["train.learning_rate"] == 1e30 for row in diverged)
    assert all(row["value"] is None for row in failed)

    top = max(done, key=lambda row: row["value"])
    best, base = read_run("runs/found/best.toml"), read_run("run.toml")
    assert best == override(base, top["overrides"] | {"name": "found-best"})
    assert best.train.workers == 2

    # A trial is that run's training, no more and no less.
    state = train(varied(search.shared_job(base), best), World())
    assert top["value"] == pytest.approx(state["best"]["ndcg"])
    assert top["best_epoch"] == state["best"]["epoch"]

    lines = [message for message in caplog.messages if message.startswith("trial ")]
    assert len(lines) == 4
    assert sum("failed (the loss is" in line for line in lines) == len(diverged)
    assert sum("process has died" in line for line in lines) == len(died)
    said = capsys.readouterr().out
    assert f"{top['value']:.4f}" in said
    assert said.endswith(f"python -m train fit {folder}/runs/found/best.toml\n")

    with pytest.raises(SystemExit) as ended:
        command(main, ["sweep.toml", "--name", "found"])
    assert ended.value.code == 2
    assert "exists; choose another --name" in capsys.readouterr().err


def test_a_sweep_without_a_single_result_says_why() -> None:
    run = Run.model_validate(tomllib.loads(RUN))
    failed: list[Record] = [{"overrides": {}, "value": None, "reason": "the loss is nan"}]
    with pytest.raises(ValueError, match=r"^all 1 trials failed; the first: the loss is nan$"):
        search.best(Sweep.model_validate(tomllib.loads(SWEEP)), run, failed)


def test_no_trial_sees_the_test() -> None:
    run = Run.model_validate(tomllib.loads(RUN))
    data, folds = prepare(run)
    job = search.shared_job(run)
    assert job.validation is not None
    assert job.interactions.timestamp.max() < folds.t1 < folds.t2
    events = data.interactions
    window = (events.timestamp >= folds.t1) & (events.timestamp < folds.t2)
    within = set(zip(events.user[window].tolist(), events.item[window].tolist(), strict=True))
    relevant = job.validation.relevant
    users = np.repeat(job.validation.users, np.diff(relevant.offsets))
    assert set(zip(users.tolist(), relevant.values.tolist(), strict=True)) <= within
    assert len(users) > 100

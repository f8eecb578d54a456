"""Sweeps on generated data: real trials on a real Ray, through the command line's main."""

import json
import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import optuna
import pytest
import ray.tune
from mlflow import MlflowClient

from cluster import cli
from tests.sweeps import RUN, SWEEP, records
from train.bundle.bundle import check
from train.config import Run
from train.run_files import read_run
from train.steps import prepare
from train.trainer.job import Worker
from train.trainer.loop import train
from tune.__main__ import main
from tune.config import Sweep
from tune.outcome import outcome
from tune.search import SearchResult
from tune.space.draws import override
from tune.subjects import SUBJECTS
from tune.subjects.towers import varied
from tune.trials import tuner
from tune.trials.trial import trial

if TYPE_CHECKING:
    pass


ALONE, BOTH = '["tower"]', '["tower", { name = "itemknn", neighbours = { int = [9, 40] } }]'


def shared(run: Run) -> Any:
    return SUBJECTS["towers"].prepare(run, *prepare(run), "")


def test_a_sweep_finds_the_best_of_its_trials_and_outlives_the_others(
    sweep_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost, last = sweep_folder / "lost", sweep_folder / "last"

    def dying(config: Mapping[str, Any], **given: Any) -> None:
        if config["overrides"].get("loss", {}).get("name") == "bpr":
            os._exit(1)
        report = ray.tune.report

        def dying_twice(row: dict[str, Any], **checkpoint: Any) -> None:
            if config["trial"] == 1:
                with lost.open("a") as file:
                    file.write(f"{row['epoch']} ")
                if lost.read_text() == "1 2 3 ":
                    os._exit(1)
            report(row, **checkpoint)
            if config["trial"] == 1 and row.get("ended") and not last.exists():
                last.write_text(json.dumps(row))
                os._exit(1)

        with patch.object(ray.tune, "report", dying_twice):
            trial(config, **given)

    monkeypatch.setattr(tuner, "trial", dying)
    with caplog.at_level(logging.INFO, "tune"):
        main(["sweep.toml", "--name", "found"])
    rows = records("found")
    assert [row["trial"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["overrides"] == {}
    done = [row for row in rows if row["state"] != "failed"]
    failed = [row for row in rows if row["state"] == "failed"]
    died = [row for row in failed if row["overrides"]["loss"]["name"] == "bpr"]
    diverged = [row for row in failed if row not in died]
    assert died and diverged and len(done) > 1
    assert all("died" in row["reason"] for row in died)
    assert all("the loss is" in row["reason"] for row in diverged)
    assert all(row["overrides"]["train.learning_rate"] == 1e30 for row in diverged)
    assert all(row["values"] == {} for row in failed)

    # A process that was lost is replaced, and goes on after the last epoch that it had told of.
    # One that is lost after its end only says again what it had said.
    assert lost.read_text() == "1 2 3 3 3 3 "
    assert rows[0]["seconds"] == round(json.loads(last.read_text())["seconds"], 2) > 0
    state = train(varied(shared(read_run("run.toml")), read_run("run.toml")), Worker())
    assert [point["epoch"] for point in rows[0]["curve"]] == [1, 2, 3]
    assert rows[0]["values"]["ndcg"] == pytest.approx(state["best"]["ndcg"])

    top = max(done, key=lambda row: row["values"]["ndcg"])
    # It is found from every folder, and says what differs.
    best, base = read_run("runs/found/best.toml"), read_run(str(Path("run.toml").absolute()))
    own = {"name": "found-best", "storage": str(Path("runs").absolute())}
    assert best == override(base, top["overrides"] | own)
    text = Path("runs/found/best.toml").read_text()
    assert f'extends = "{Path("run.toml").absolute()}"' in text
    assert "[data]" not in text
    assert best.train.workers == 2

    # A trial is that run's training, no more and no less.
    state = train(varied(shared(base), best), Worker())
    assert top["values"]["ndcg"] == pytest.approx(state["best"]["ndcg"])
    assert top["best_epoch"] == state["best"]["epoch"]
    assert [point["epoch"] for point in top["curve"]] == [1, 2, 3]

    lines = [message for message in caplog.messages if message.startswith("trial ")]
    assert len(lines) == 4
    assert sum("failed (the loss is" in line for line in lines) == len(diverged)
    assert sum("process has died" in line for line in lines) == len(died)
    assert "1 of 4 done" in lines[0] and f"ndcg {rows[0]['values']['ndcg']:.4f}" in lines[0]
    said = capsys.readouterr().out
    assert f"Trial {top['trial']} is the best by ndcg: ndcg {top['values']['ndcg']:.4f}" in said
    assert "No trial has seen the test" in said
    assert said.endswith(f"python -m train fit {sweep_folder}/runs/found/best.toml\n")
    second = max((row for row in done if row is not top), key=lambda row: row["values"]["ndcg"])
    against = {second["trial"]: f"trial {second['trial']}, the runner-up"}
    against |= {1: "the run as it is"} if top is not rows[0] else {}
    for number, who in against.items():
        better = top["values"]["ndcg"] - rows[number - 1]["values"]["ndcg"]
        assert f"Against {who}: NDCG@10 {better:+.4f} [" in said

    # What failed is bad to the search too, and its database can be opened by others.
    study = optuna.load_study(
        study_name="found", storage=f"sqlite:///{sweep_folder}/runs/found/optuna.db"
    )
    told = [one for one in study.trials if one.state == optuna.trial.TrialState.COMPLETE]
    assert len(told) == len(rows) - 1
    assert sorted(one.value for one in told if one.value is not None)[: len(failed)] == [0.0] * len(
        failed
    )

    # One MLflow run for the sweep, a child a trial.
    client = MlflowClient(f"sqlite:///{sweep_folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("raytower")
    assert experiment is not None
    logged = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert logged.keys() == {"found", *(f"found-{number}" for number in range(1, 5))}
    parent, child = logged["found"], logged[f"found-{top['trial']}"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.metrics["ndcg"] == pytest.approx(top["values"]["ndcg"])
    assert logged[f"found-{failed[0]['trial']}"].info.status == "FAILED"

    page = Path("runs/found/report.html").read_text()
    assert f"Trial {top['trial']} is the best by ndcg" in page
    assert Path("runs/found/plots").is_dir()

    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["sweep.toml", "--name", "found"])
    assert ended.value.code == 2
    assert "exists; choose another --name" in capsys.readouterr().err


def test_a_sweep_learns_from_an_earlier_one_and_tries_known_points_first(
    sweep_folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    Path("run.toml").write_text("page = false\n" + RUN.replace("workers = 2", "workers = 0"))
    Path("space.toml").write_text(
        """
run = "run.toml"
trials = 3
metrics = ["ndcg", "milliseconds"]
[space]
"tower.width" = { int = [4, 16] }
"""
    )
    main(["space.toml", "--name", "first"])
    text = Path("space.toml").read_text()
    Path("again.toml").write_text(
        text.replace(
            "[space]", 'after = "runs/first"\nseeds = 2\nstart = [{"tower.width" = 11}]\n[space]'
        )
    )
    with caplog.at_level(logging.INFO, "tune"):
        words = ["--name", "second", "--trials", "2", "--storage", "elsewhere", "--refit"]
        main(["again.toml", *words])
    assert any("learned from 3 of 3 trials" in message for message in caplog.messages)
    first, second = records("first"), records("second", "elsewhere")
    assert [row["overrides"] for row in second] == [{}, {"tower.width": 11}]
    assert all(row["values"]["milliseconds"] > 0 for row in first + second)

    # Two seeds: the mean of both runs.
    base = read_run("run.toml")
    wide = override(base, {"tower.width": 11})
    runs = [wide, wide.model_copy(update={"seed": wide.seed + 1})]
    both = [train(varied(shared(base), run), Worker())["best"]["ndcg"] for run in runs]
    assert both[0] != both[1]
    assert second[1]["values"]["ndcg"] == pytest.approx(np.mean([ndcg or 0 for ndcg in both]))

    # The winner's bundle, and its test, which nothing before has looked at.
    said = capsys.readouterr().out
    bundle = Path(said.splitlines()[-1])
    assert bundle.parent == sweep_folder / "elsewhere" / "second-best" / "bundles"
    metrics = check(str(bundle))[1]["metrics"]["systems"]["stage_1"]["ndcg"]
    assert f"stage 1 {metrics['mean']:.4f} [" in said
    assert "No other trial is better in" in said


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ('reranker = { choice = [{ name = "none" }, { name = "mlp", epochs = 2 }] }', ["ndcg"]),
        ('"reranker.kinds.catboost.depth" = { int = [1, 3] }', ["ndcg"]),
        ('"index.m" = { int = [4, 8] }', ["recall", "microseconds"]),
        ('"sources.ease.quota" = { int = [5, 200] }', ["recall"]),
        (f"sources = {{ choice = [{ALONE}, {BOTH}] }}", ["recall"]),
    ],
)
def test_rerankers_sources_and_indexes_are_swept_over_one_training_of_the_towers(
    sweep_folder: Path, space: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("run.toml").read_text().replace("workers = 2", "workers = 0")
    sources = 'sources = ["tower", { name = "ease", regularization = 100 }]'
    Path("run.toml").write_text(f"{sources}\n{text}")
    Path("sweep.toml").write_text(f'run = "run.toml"\ntrials = 3\n[space]\n{space}\n')
    main(["sweep.toml", "--name", "parts"])
    rows = records("parts")
    assert [list(row["values"]) for row in rows] == [names] * 3
    assert all(row["curve"] == [] for row in rows)
    assert [path.stem for path in Path("runs/parts/training").glob("*.pt")] == ["select"]
    name = names[0]
    top = max(rows, key=lambda row: row["values"][name])["values"][name]
    assert f"{name} {top:.4f}" in capsys.readouterr().out
    assert read_run("runs/parts/best.toml").name == "parts-best"


def test_a_sweep_without_a_single_result_says_why() -> None:
    run = Run.model_validate(tomllib.loads(RUN))
    failed = SearchResult([{"values": {}, "reason": "the loss is nan"}], [None], None)
    with pytest.raises(ValueError, match=r"^all 1 trials failed; the first: the loss is nan$"):
        outcome(Sweep.model_validate(tomllib.loads(SWEEP)), run, failed)


def test_what_no_node_can_give_is_refused(
    sweep_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["sweep.toml", "--cpus", "64"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "a trial needs 64 CPU, and no node of this Ray has that; they have 4 CPU" in said
    assert not Path("runs").exists()


def test_no_trial_sees_the_test() -> None:
    run = Run.model_validate(tomllib.loads(RUN))
    data, folds = prepare(run)
    job = shared(run)
    assert job.validation is not None
    assert job.interactions.timestamp.max() < folds.t1 < folds.t2
    events = data.interactions
    window = (events.timestamp >= folds.t1) & (events.timestamp < folds.t2)
    within = set(zip(events.user[window].tolist(), events.item[window].tolist(), strict=True))
    relevant = job.validation.relevant
    users = np.repeat(job.validation.users, np.diff(relevant.offsets))
    assert set(zip(users.tolist(), relevant.values.tolist(), strict=True)) <= within
    assert len(users) > 100

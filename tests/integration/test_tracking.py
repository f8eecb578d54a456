"""What a fit logs in MLflow, read back from the store by MLflow itself."""

import logging
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from cluster.ports import free_ports
from cluster.storage import MANIFEST
from tests.integration.test_fit import interrupted, make_run
from train.bundle.bundle import check
from train.config import Run
from train.fit import fit
from train.tracking.mlflow_tracker import MLflow
from train.trainer.workers import train_here


def tracked(storage: Path, **changes: Any) -> Run:
    """Return a run of seconds that is logged in the local store."""
    short = {"reranker": "none", "evaluation": {"resamples": 100}, "tracking": "mlflow"}
    return make_run(storage, **short | changes)


def client(storage: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{storage}/mlflow.db")


def logged(storage: Path, experiment: str = "raytower") -> MlflowRun:
    """Return the only run of the experiment."""
    found = client(storage).get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client(storage).search_runs([found.experiment_id])
    return run


def history(storage: Path, key: str) -> list[tuple[int, float]]:
    """Return steps and values of a metric as they came."""
    points = client(storage).get_metric_history(logged(storage).info.run_id, key)
    return [(point.step, point.value) for point in sorted(points, key=lambda p: p.timestamp)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fit(tracked(tmp_path_factory.mktemp("runs"), loss="full_softmax", page=True))


@pytest.fixture
def runs(place: str) -> Path:
    return Path(place).parents[2]


def test_settings_become_parameters(runs: Path) -> None:
    params = logged(runs).data.params
    assert params["loss.name"] == "full_softmax"
    assert params["train.learning_rate"] == "0.02"
    assert params["data.interactions"] == "9000"
    assert params["candidates"] == "40"
    assert not [key for key in params if key.startswith("tracking")]


def test_every_epoch_of_every_phase_is_there(runs: Path, place: str) -> None:
    facts = check(place)[1]["training"]
    curve = facts["select"]
    assert history(runs, "select/ndcg") == [(row["epoch"], row["ndcg"]) for row in curve]
    assert history(runs, "select/loss") == [(row["epoch"], row["loss"]) for row in curve]
    for phase in ("refit", "final"):
        steps = [step for step, _ in history(runs, f"{phase}/loss")]
        assert steps == list(range(1, facts["epochs"] + 1))


def test_the_results_of_every_system_are_there(runs: Path, place: str) -> None:
    values = logged(runs).data.metrics
    report = check(place)[1]["metrics"]
    for name, system in report["systems"].items():
        assert values[f"test/{name}/ndcg"] == system["ndcg"]["mean"]
        assert values[f"test/{name}/coverage"] == system["coverage"]["mean"]
    assert values["test/candidates/recall"] == report["recall@candidates"]["mean"]


def test_it_names_the_bundle_and_has_its_report(runs: Path, place: str) -> None:
    run = logged(runs)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.tags["bundle.version"] == Path(place).name
    assert run.data.tags["bundle.place"] == place
    assert run.info.artifact_uri == f"{runs}/mlflow-artifacts/{run.info.run_id}/artifacts"
    kept = Path(run.info.artifact_uri)
    assert {path.name for path in kept.iterdir()} == {MANIFEST, "report.html"}
    for name, original in (("report.html", runs / "run"), (MANIFEST, Path(place))):
        assert (kept / name).read_bytes() == (original / name).read_bytes()


def test_a_complete_run_is_logged_once_and_may_be_logged_elsewhere(runs: Path, place: str) -> None:
    before = logged(runs).info.end_time
    assert fit(tracked(runs, loss="full_softmax")) == place
    assert fit(tracked(runs, loss="full_softmax", tracking="none")) == place
    assert logged(runs).info.end_time == before


def test_an_interrupted_run_goes_on_in_the_same_mlflow_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("train.bundle.bundle._publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tracked(tmp_path))
    first = logged(tmp_path).info
    assert first.status == "KILLED"
    place = fit(tracked(tmp_path))
    again = logged(tmp_path)
    assert (again.info.run_id, again.info.status) == (first.run_id, "FINISHED")
    curve = check(place)[1]["training"]["select"]
    assert history(tmp_path, "select/loss") == [(row["epoch"], row["loss"]) for row in curve]


def after_two_epochs(action: Callable[[], None]) -> Callable[..., Any]:
    """Return the training of this process, with something that happens in the first phase."""

    def trained(jobs: Any, place: str, watch: Callable[..., None]) -> Any:
        def seen(phase: str, row: dict[str, Any]) -> None:
            watch(phase, row)
            if (phase, row["epoch"]) == ("select", 2):
                action()

        return train_here(jobs, place, seen)

    return trained


def test_a_store_that_goes_away_takes_no_training_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone() -> None:
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            database.execute("ALTER TABLE metrics RENAME TO gone")

    monkeypatch.setattr("train.steps.train_here", after_two_epochs(gone))
    place = fit(tracked(tmp_path))
    assert check(place)[1]["version"] == Path(place).name
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [text for text in warned if "MLflow did not get epoch 3 of select: " in text]
    # Not one for each of the epochs that follow.
    assert not [text for text in warned if "epoch 4" in text]
    assert [text for text in warned if "MLflow did not get the result: " in text]


def test_what_a_store_missed_is_logged_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut() -> None:
        away.setattr(MlflowClient, "log_batch", refused)

    def refused(*args: object, **values: object) -> None:
        away.undo()
        raise ConnectionError("refused")

    away = pytest.MonkeyPatch()
    monkeypatch.setattr("train.steps.train_here", after_two_epochs(shut))
    place = fit(tracked(tmp_path))
    curve = check(place)[1]["training"]["select"]
    assert sorted(history(tmp_path, "select/loss")) == [(r["epoch"], r["loss"]) for r in curve]


@pytest.mark.parametrize("kind", ["server", "folder", "scheme"])
def test_a_store_that_cannot_be_used_is_refused_before_training(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = {
        "server": f"http://me:hidden@127.0.0.1:{free_ports(1)[0]}",
        "folder": str(tmp_path / "mlruns"),
        "scheme": "nothing://here",
    }[kind]
    with pytest.raises(ValueError, match=r"cannot be used; start it, or set tracking\.uri") as e:
        fit(tracked(tmp_path, tracking={"name": "mlflow", "uri": uri}))
    assert "hidden" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_without_mlflow_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"install: pip install -c constraints\.txt mlflow-skinny"):
        fit(tracked(tmp_path))
    assert not (tmp_path / "run").exists()


def test_runs_elsewhere_need_a_store() -> None:
    with pytest.raises(ValueError, match=r"tracking\.uri: is needed where storage is a URI"):
        MLflow().tracker("run", "s3://bucket/runs/run")


def test_nothing_is_left_active_in_this_process(place: str) -> None:
    assert mlflow.active_run() is None

"""Factorizations as whole runs: what the table has as a baseline is served as a bundle."""

import logging
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
import torch

from tests.integration.test_fit import answer_of, interrupted, make_run
from tests.integration.test_tracking import history as logged
from tests.training import FACTORIZED
from train.bundle import evaluation_arrays
from train.bundle.bundle import Bundle, open_bundle
from train.config import Run
from train.core.ragged import Ragged
from train.export.mlflow_model import export_mlflow
from train.export.onnx_model import export_onnx, run_onnx
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.recommender.retrieval import retrieve
from train.towers.factorized import Factorized

WIDTH = 7


def factorized(storage: Path, name: str, **changes: Any) -> Run:
    """Return a run of a factorization alone beside the same as a baseline, on a worker if asked."""
    tower = FACTORIZED[name].model_validate({"width": WIDTH, "history": 15, **changes})
    baseline = tower.baseline()
    return make_run(
        storage,
        sources=["tower"],
        tower=tower,
        train={"workers": 1},
        final_fit="before_test",
        evaluation={"resamples": 100, "baselines": [baseline.model_dump()]},
    )


@pytest.fixture(scope="module", params=FACTORIZED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(name: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the bundle of a run that must not start Ray."""

    def started(*args: object) -> None:
        raise AssertionError("Ray was started")

    with pytest.MonkeyPatch.context() as no_ray:
        no_ray.setattr("train.fit.connect", started)
        return open_bundle(fit(factorized(tmp_path_factory.mktemp("runs"), name)))


def test_stage_1_is_the_baseline_of_the_table(bundle: Bundle, name: str) -> None:
    systems = bundle.manifest["metrics"]["systems"]
    kept = evaluation_arrays.read(str(bundle.folder), bundle.manifest)
    assert bundle.recommender.histories.lengths.max() > bundle.model().settings.history
    np.testing.assert_allclose(kept["ndcg.stage_1"], kept[f"ndcg.{name}"], atol=1e-9)
    for metric, value in systems[name].items():
        assert systems["stage_1"][metric]["mean"] == pytest.approx(value["mean"])
    assert value["mean"] > 0
    assert list(bundle.manifest["training"]["select"][0]) == ["epoch", "seconds", "ndcg"]


def test_the_commands_work_as_for_any_bundle(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    place = bundle.folder
    assert answer_of(capsys, "evaluate", place, "--json") == bundle.manifest["metrics"]
    (user,) = bundle.recommender.users.external(np.array([5]))
    known = answer_of(capsys, "recommend", place, "--user-id", user)["items"]
    assert known == recommend(bundle.recommender, [Request(user_id=user)])[0]["items"]
    history = bundle.recommender.items.external(np.array([3, 4, 5]))
    fresh = answer_of(capsys, "recommend", place, "--history", *history)["items"]
    assert len(known) == len(fresh) == 10
    assert not {item["item_id"] for item in fresh} & set(history)


def test_new_users_are_answered_by_taste_and_known_ones_moved(bundle: Bundle) -> None:
    tastes = [
        np.flatnonzero(bundle.recommender.item_features.categories.values == code)
        for code in (0, 1)
    ]
    histories = [bundle.recommender.items.external(taste[:6]) for taste in tastes]
    answers = recommend(bundle.recommender, [Request(history=history) for history in histories])
    assert [answer["source"] for answer in answers] == ["history", "history"]
    first, second = ([item["item_id"] for item in answer["items"]] for answer in answers)
    assert first != second
    (user,) = bundle.recommender.users.external(np.array([5]))
    asked = [Request(user_id=user), Request(user_id=user, history=histories[0])]
    vectors = retrieve(bundle.recommender, asked).vectors
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_a_bundle_in_onnx_gives_its_vectors(bundle: Bundle, tmp_path: Path) -> None:
    assert max(export_onnx(bundle, tmp_path / "onnx").values()) < 1e-4
    users = np.arange(40)
    history = torch.tensor(bundle.recommender.histories.take(users).last(15)).long()
    asked = {"users": torch.tensor(users), "history": history}
    (found,) = run_onnx(tmp_path / "onnx" / "user_tower.onnx", asked)
    np.testing.assert_allclose(found, bundle.recommender.user_vectors[users], atol=1e-4)
    fresh = torch.tensor([[-1] * 11 + [3, 4, 4, 3]])
    asked = {"users": torch.tensor([-1]), "history": fresh}
    (found,) = run_onnx(tmp_path / "onnx" / "user_tower.onnx", asked)
    expected = bundle.recommender.encode_users(np.array([-1]), Ragged.from_rows([[3, 4]]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_bundle_as_an_mlflow_model_answers_as_recommend(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the model's copy of ours first
    export_mlflow(bundle, tmp_path / "model")
    users = bundle.recommender.users.external(np.arange(5))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    found = model.predict([{"user_id": user, "k": 4} for user in users])
    told = recommend(bundle.recommender, [Request(user_id=user, k=4) for user in users])
    expected = [[item["item_id"] for item in answer["items"]] for answer in told]
    assert [[item for item, _, _ in row] for row in found] == expected


def test_what_onnx_cannot_solve_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(fit(factorized(tmp_path, "als", alpha=4.0)))
    assert (
        len(
            recommend(
                bundle.recommender,
                [Request(history=bundle.recommender.items.external(np.arange(3)))],
            )
        )
        == 1
    )
    with pytest.raises(ValueError, match=r"user_tower\.onnx cannot be written.*linalg_solve"):
        export_onnx(bundle, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_an_interrupted_run_is_not_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = factorized(tmp_path, "svd").model_copy(update={"final_fit": "everything"})
    run = run.model_copy(update={"loss": make_run(tmp_path, loss="bpr").loss})
    with monkeypatch.context() as broken:
        broken.setattr("train.bundle.bundle._publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(run)
    assert "tower svd is fitted at once, without a loss: ignoring loss bpr" in caplog.text
    monkeypatch.setattr(Factorized, "fit", interrupted)
    caplog.set_level(logging.INFO, "train")
    bundle = open_bundle(fit(run))
    assert bundle.recommender.histories.lengths.sum() == 9_000


def test_a_tracked_one_logs_its_only_epoch_once(tmp_path: Path) -> None:
    run = factorized(tmp_path, "warp").model_copy(
        update={"tracking": make_run(tmp_path, tracking="mlflow").tracking}
    )
    bundle = open_bundle(fit(run))
    (epoch,) = bundle.manifest["training"]["select"]
    assert logged(tmp_path, "select/ndcg") == [(1, epoch["ndcg"])]
    assert logged(tmp_path, "select/loss") == []

"""Whole small runs of other settings: each with a fit of its own, refused ones without."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.test_fit import answer_of, interrupted, make_run, systems
from train.__main__ import main
from train.bundle.bundle import open_bundle
from train.core.ragged import Ragged
from train.data.snapshot import Holdout, validation_holdout
from train.evaluate import measure
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.recommender.retrieval import retrieve
from train.recommender.training_rows import MIN_GROUPS
from train.rerankers.logit import LinearReranker
from train.steps import prepare, select_holdout


def test_everything_is_learned_for_serving_and_a_perceptron_reranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = fit(make_run(tmp_path, reranker={"name": "mlp", "epochs": 4}))
    bundle = open_bundle(place)
    assert bundle.recommender.reranker is not None
    assert bundle.recommender.reranker.name == bundle.manifest["reranker"]["name"] == "mlp"
    assert (Path(place) / "reranker.safetensors").exists()
    assert bundle.recommender.histories.lengths.sum() == 9_000
    assert list(bundle.manifest["metrics"]["systems"]) == systems(bundle, "stage_1", "both_stages")
    # The test is in what these towers learned: the numbers are those from before.
    assert answer_of(capsys, "evaluate", place, "--json") == bundle.manifest["metrics"]
    with pytest.raises(ValueError, match="fitted on everything, its test too"):
        main(["evaluate", place, "--rules", "{}"])
    user = bundle.recommender.users.external(np.array([0]))[0]
    assert len(answer_of(capsys, "recommend", place, "--user-id", user)["items"]) == 10


def test_what_nobody_took_is_recommended_by_what_is_known_of_it(tmp_path: Path) -> None:
    """A tenth of the items held out: by attributes alone, far better than at random."""
    changes: dict[str, Any] = {"split": {"name": "hold_out_items", "test": 0.1}, "catalogue": "all"}
    tower = {"name": "two_tower", "width": 8, "history": 10, "item_id": False}
    changes |= {"tower": tower, "reranker": "none", "final_fit": "before_test"}
    bundle = open_bundle(fit(make_run(tmp_path, **changes)))
    cold = bundle.recommender.statistics.item_count == 0
    assert cold.sum() >= 12
    assert bundle.recommender.catalogue.all()
    report = bundle.manifest["metrics"]
    assert report["catalogue"] == 120
    systems = report["systems"]
    assert systems["popularity"]["ndcg"]["mean"] < 0.5 * systems["stage_1"]["ndcg"]["mean"]
    asked = [
        Request(user_id=user, k=20) for user in bundle.recommender.users.external(np.arange(100))
    ]
    items = {
        item["item_id"]
        for answer in recommend(bundle.recommender, asked)
        for item in answer["items"]
    }
    assert items & set(bundle.recommender.items.external(np.flatnonzero(cold)))


def test_a_tower_that_cannot_tell_cold_items_apart_is_refused(tmp_path: Path) -> None:
    tower = {"name": "two_tower", "item_attributes": False}
    with pytest.raises(ValueError, match="all look the same"):
        make_run(tmp_path, catalogue="all", tower=tower)


def senseless(window: Holdout) -> Holdout:
    """Return a window in which all took what chance gave them: there is nothing to be learned."""
    taken = np.random.default_rng(0).integers(0, 120, len(window.relevant.values))
    return replace(window, relevant=Ragged(taken.astype(np.int32), window.relevant.offsets))


def test_a_reranker_that_does_not_earn_its_place_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "train.steps.validation_holdout", lambda *args: senseless(validation_holdout(*args))
    )
    bundle = open_bundle(fit(make_run(tmp_path)))
    judged = bundle.manifest["reranker"]
    assert bundle.recommender.reranker is not None
    assert not judged["earned"]
    assert judged["low"] <= 0
    requests = [Request(user_id=user) for user in bundle.recommender.users.external(np.arange(20))]
    first = retrieve(replace(bundle.recommender, candidates=40), requests).candidates
    for answer, items in zip(recommend(bundle.recommender, requests), first.items, strict=True):
        assert [i["item_id"] for i in answer["items"]] == bundle.recommender.items.external(
            items[:10]
        )


def test_too_few_users_for_a_reranker_are_said_and_served_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(*args: Any) -> Holdout:
        return validation_holdout(*args).take(np.arange(9))

    monkeypatch.setattr("train.steps.validation_holdout", few)
    bundle = open_bundle(fit(make_run(tmp_path)))
    assert bundle.recommender.reranker is None
    assert f"a reranker needs {MIN_GROUPS}" in bundle.manifest["reranker"]["reason"]
    assert bundle.recommender.served == bundle.manifest["gate"]["served"] == "stage_1"
    assert list(bundle.manifest["metrics"]["systems"]) == systems(bundle, "stage_1")
    user = bundle.recommender.users.external(np.array([0]))[0]
    assert len(recommend(bundle.recommender, [Request(user_id=user)])[0]["items"]) == 10


def test_a_logit_learns_from_users_like_those_of_the_test(tmp_path: Path) -> None:
    """It reads the linear score, which the answer to a request has as the test had it."""
    run = make_run(
        tmp_path,
        split={"name": "time", "min_user_test": 4},
        linear_score={"rank": 8},
        reranker={"name": "logit", "features": ["retrieval_score", "linear_score"]},
        final_fit="before_test",
    )
    bundle = open_bundle(fit(run))
    data, folds = prepare(run)
    window = select_holdout(run, data, folds)
    assert bundle.manifest["reranker"]["queries"] == (window.relevant.lengths >= 4).sum()
    assert isinstance(bundle.recommender.reranker, LinearReranker)
    assert (bundle.recommender.reranker.weights > 0).all()
    assert measure(bundle)["systems"] == bundle.manifest["metrics"]["systems"]
    assert bundle.manifest["metrics"]["gain"]["ndcg"]["mean"] > 0


def test_a_linear_score_that_nothing_reads_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "train")
    fit(make_run(tmp_path, linear_score={"rank": 8}, reranker="none", final_fit="before_test"))
    assert "there is no reranker to learn from it: ignoring linear_score" in caplog.text


def test_an_interrupted_run_leaves_no_bundle_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, home = make_run(tmp_path, reranker="none"), tmp_path / "run"
    with monkeypatch.context() as broken:
        broken.setattr("train.bundle.bundle._publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(run)
    assert not list((home / "bundles").iterdir())
    assert not (home / "done.json").exists()
    caplog.set_level(logging.INFO, "train")
    caplog.clear()
    bundle = open_bundle(fit(run))
    assert bundle.manifest["reranker"] == {
        "earned": False,
        "reason": "the configuration asks for none",
    }
    assert "final 9,000" in caplog.text
    assert "final: trained before" in caplog.text
    assert ": epoch " not in caplog.text
    assert [path.name for path in (home / "bundles").iterdir()] == [bundle.version]

"""Whole small runs: from generated data to a bundle, and what the command line makes of it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import cli
from cluster.session import Session
from train.__main__ import main
from train.bundle import evaluation_arrays
from train.bundle.bundle import Bundle, open_bundle
from train.config import DEFAULT_SOURCES, NoReranker, Run
from train.data.splits.times import Time
from train.evaluate import measure
from train.fit import fit
from train.index import hnsw
from train.metrics.ranking import NAMES
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.report.compare import compare
from train.sources.entries import TowerSource

ROOT = Path(__file__).parents[2]
BASELINES = ["popularity", "recent_popularity", "itemknn", "als", "ease"]
SOURCES = [source.name for source in DEFAULT_SOURCES]
NEW = 10**6


def make_run(storage: Path, **changes: Any) -> Run:
    """Return a run of a few seconds on 300 users and 120 items, in this process."""
    table: dict[str, Any] = {
        "storage": str(storage),
        "data": {
            "name": "generated",
            "users": 300,
            "items": 120,
            "interactions": 9_000,
            "tastes": 6,
        },
        "tower": {"name": "two_tower", "width": 8, "history": 10},
        "train": {
            "workers": 0,
            "batch_size": 256,
            "epochs": 5,
            "learning_rate": 0.02,
            "weight_decay": 1.0,
            "threads": 1,
        },
        "reranker": {"name": "catboost", "iterations": 40},
        "candidates": 40,
        "page": False,
        "evaluation": {"resamples": 200, "baselines": BASELINES},
    }
    return Run.model_validate(table | changes)


def interrupted(*args: object) -> None:
    raise KeyboardInterrupt


def systems(bundle: Bundle, *stages: str) -> list[str]:
    """Return the systems that a report has: baselines, the sources that were kept, and stages."""
    measured = bundle.manifest["contributions"]
    assert list(measured) == SOURCES
    kept = [name for name, of in measured.items() if of["kept"]]
    assert list(bundle.recommender.quotas) == kept
    assert len(kept) > 1
    return [*BASELINES, *(f"source_{name}" for name in kept), *stages]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run on one Ray worker that is served as it was tested."""
    plain = make_run(
        tmp_path_factory.mktemp("runs"), name="first", final_fit="before_test", page=True
    )
    return plain.model_copy(update={"train": plain.train.model_copy(update={"workers": 1})})


@pytest.fixture(scope="module")
def place(run: Run, local_ray: Session) -> str:
    return fit(run)


@pytest.fixture(scope="module")
def bundle(place: str) -> Bundle:
    return open_bundle(place)


def answer_of(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """Run `python -m train` with these words and return its JSON."""
    with pytest.raises(SystemExit) as ended:
        cli.run(main, [str(word) for word in words])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return json.loads(said.out)


def test_the_table_has_every_system_and_metric(bundle: Bundle) -> None:
    report = bundle.manifest["metrics"]
    assert list(report["systems"]) == systems(bundle, "stage_1", "both_stages")
    for metrics in report["systems"].values():
        assert list(metrics) == [*NAMES, "novelty", "coverage"]
        for name in NAMES:
            assert 0 <= metrics[name]["low"] <= metrics[name]["mean"] <= metrics[name]["high"] <= 1
    ceiling = report["recall@candidates"]["mean"]
    assert ceiling >= max(
        report["systems"][name]["recall"]["mean"] for name in ("stage_1", "both_stages")
    )
    assert report["gain"]["ndcg"]["mean"] == pytest.approx(
        report["systems"]["both_stages"]["ndcg"]["mean"]
        - report["systems"]["stage_1"]["ndcg"]["mean"]
    )


def test_towers_find_the_planted_tastes(bundle: Bundle) -> None:
    alone = replace(bundle.recommender, quotas={"tower": None}, reranker=None, served="stage_1")
    found = measure(replace(bundle, recommender=alone))["systems"]
    assert "both_stages" not in found
    assert found["stage_1"]["ndcg"]["low"] > found["popularity"]["ndcg"]["high"]


def test_the_bundle_says_how_it_was_made(run: Run, bundle: Bundle) -> None:
    manifest = bundle.manifest
    # The split that suits the data is the one that was used.
    used = run.model_copy(update={"split": Time()})
    assert Run.model_validate(manifest["config"]) == used
    assert manifest["name"] == "first"
    assert len(manifest["data"]["sha256"]) == 64
    curve = manifest["training"]["select"]
    assert [row["epoch"] for row in curve] == list(range(1, len(curve) + 1))
    kept = curve[manifest["training"]["epochs"] - 1]
    assert kept["ndcg"] >= 0.99 * max(row["ndcg"] for row in curve)
    judged = manifest["reranker"]
    assert judged["name"] == "catboost"
    assert judged["earned"] == (manifest["gate"]["served"] == "both_stages")
    assert bundle.recommender.served == manifest["gate"]["served"]
    assert [row["system"] for row in manifest["gate"]["ladder"]][-2:] == ["stage_1", "catboost"]
    if hnsw.library():
        assert manifest["index"]["recall"] >= 0.99


def test_the_page_of_a_run_has_what_only_the_test_can_tell(run: Run, place: str) -> None:
    written = (Path(run.storage) / run.name / "report.html").read_text(encoding="utf-8")
    for word in ("first: report", "both stages", "Scores of pairs", "Recall by candidates"):
        assert word in written


def test_the_same_run_again_is_the_same_bundle(run: Run, place: str) -> None:
    assert fit(run) == place
    assert open_bundle(Path(run.storage) / run.name).folder == Path(place)


def test_the_same_name_for_another_run_is_refused(run: Run, place: str) -> None:
    other = run.model_copy(update={"candidates": 41, "seed": 5})
    with pytest.raises(ValueError, match=r"another configuration \(candidates, seed changed\)"):
        fit(other)
    assert fit(run) == place


def test_evaluate_gives_the_recorded_numbers(
    bundle: Bundle, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer_of(capsys, "evaluate", place, "--json") == bundle.manifest["metrics"]


def test_evaluate_says_what_rules_cost(
    bundle: Bundle, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    items = bundle.recommender.items.external(np.flatnonzero(bundle.recommender.catalogue))
    served = bundle.manifest["metrics"]["verdict"]["served"]
    recorded = bundle.manifest["metrics"]["systems"][served]["ndcg"]["mean"]
    every = answer_of(capsys, "evaluate", place, "--json", "--rules", json.dumps({"allow": items}))
    assert every["without"] == every["with"] == pytest.approx(recorded, abs=1e-6)
    assert every["difference"] == {"mean": 0, "low": 0, "high": 0}
    some = json.dumps({"allow": items[::2], "diversity": 0.1})
    half = answer_of(capsys, "evaluate", place, "--json", "--rules", some)
    assert half["without"] == every["without"]
    lost = half["difference"]
    assert lost["low"] <= lost["mean"] < 0
    assert lost["mean"] == pytest.approx(half["with"] - half["without"])
    main(["evaluate", place, "--rules", some])
    assert f"{half['with']:.4f} with these rules" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown column 'colour'"):
        main(["evaluate", place, "--rules", '{"filter": {"colour": {"eq": "red"}}}'])


def test_evaluate_prints_a_table(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", place])
    said = capsys.readouterr().out
    for word in (
        "popularity",
        "ease",
        "stage 1",
        "both stages",
        "ndcg@10",
        "coverage",
        "novelty@10",
        "each pair",
        "long",
        "recall@40",
    ):
        assert word in said


def test_users_of_the_test_are_kept_for_comparisons(
    run: Run, bundle: Bundle, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = evaluation_arrays.read(place, bundle.manifest)
    report = bundle.manifest["metrics"]
    assert len(kept["users"]) == report["users"]
    assert {name for name in kept if name.startswith("ndcg.")} == {
        f"ndcg.{name}" for name in report["systems"]
    }
    for name in report["systems"]:
        mean = report["systems"][name]["ndcg"]["mean"]
        assert kept[f"ndcg.{name}"].mean() == pytest.approx(mean)
    changes: dict[str, Any] = {"name": "worse", "storage": str(tmp_path), "final_fit": "everything"}
    training = run.train.model_copy(update={"epochs": 1, "learning_rate": 1e-5, "workers": 0})
    changes |= {"train": training, "reranker": NoReranker(), "sources": (TowerSource(),)}
    worse = fit(run.model_copy(update=changes))
    found = answer_of(capsys, "compare", worse, place, "--json")
    assert found["winner"] == "first"
    other = fit(
        make_run(tmp_path, name="other", reranker="none", split={"name": "time", "quantile": 0.7})
    )
    with pytest.raises(ValueError, match=r"different tests.*split\.quantile"):
        compare([place, other])


def test_recommend_loads_neither_ray_nor_torch(bundle: Bundle, place: str) -> None:
    user = bundle.recommender.users.external(np.array([3]))[0]
    words = [sys.executable, "-X", "importtime", "-m", "train", "recommend", place]
    done = subprocess.run(
        [*words, "--user-id", str(user), "--k", "7"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (
        json.loads(done.stdout)["items"]
        == recommend(bundle.recommender, [Request(user_id=user, k=7)])[0]["items"]
    )
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "numpy" in loaded
    assert not loaded & {"ray", "torch"}


def test_recommend_names_items_with_titles(
    bundle: Bundle, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    user = bundle.recommender.users.external(np.array([5]))[0]
    answer = answer_of(capsys, "recommend", place, "--user-id", user)["items"]
    assert len(answer) == 10
    seen = bundle.recommender.items.external(
        bundle.recommender.histories.take(np.array([5])).values
    )
    for item in answer:
        assert set(item) == {"item_id", "score", "title"}
        assert item["item_id"] not in seen
        row = bundle.recommender.items.index([item["item_id"]])[0]
        assert item["title"] == bundle.recommender.titles[int(row)].as_py()  # type: ignore[index]


def test_a_new_user_is_answered_from_the_history(
    bundle: Bundle, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two tastes, two answers: items like those in the history."""
    tastes = [
        np.flatnonzero(bundle.recommender.item_features.categories.values == code)
        for code in (0, 1)
    ]
    answers = []
    for taste in tastes:
        history = bundle.recommender.items.external(taste[:6])
        words = ("--user-id", NEW, "--history", *history)
        answer = answer_of(capsys, "recommend", place, *words)["items"]
        assert not {item["item_id"] for item in answer} & set(history)
        answers.append([item["item_id"] for item in answer])
    assert len(answers[0]) == len(answers[1]) == 10
    assert answers[0] != answers[1]

"""The whole line where hnswlib is not installed: fit, recommend, export, serve."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.bundles import make_recommender
from tests.serving import serving
from train.bundle import bundle
from train.bundle.bundle import Bundle, open_bundle
from train.export.mlflow_model import export_mlflow
from train.index.base import IndexSettings
from train.index.build import build_vector_index
from train.recommender.answers import recommend
from train.recommender.requests import Request

ROOT = Path(__file__).parents[2]
RUN = """
name = "bare"
page = true
data = {{ name = "generated", users = 300, items = 120, interactions = 9000, tastes = 6 }}
tower = {{ name = "two_tower", width = 8 }}
train = {{ workers = 0, batch_size = 256, epochs = 2, threads = 1 }}
reranker = {{ name = "catboost", iterations = 20 }}
candidates = 40
evaluation = {{ resamples = 100 }}
storage = "{storage}"
"""
# `python -m train` where 120 items are a catalogue that HNSW is for.
LARGE = """
import sys
from cluster.cli import run
from train.__main__ import main
from train.index import build
build.EXACT_ITEMS = 100
run(main)
"""
PREDICT = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(pandas.DataFrame({"user_id": json.loads(sys.argv[2]), "k": 10}))))
"""


@pytest.fixture(autouse=True)
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import hnswlib` fail in all that a test starts, Ray's processes included."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "hnswlib.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(blocked))
    code = "from train.index import hnsw; print(hnsw.library())"
    assert _python("-c", code)[0] == "None\n"


def _python(*words: object, cwd: Path = ROOT) -> tuple[str, str]:
    """Return what Python says on stdout and on stderr."""
    command = [sys.executable, *map(str, words)]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


def _graph(folder: Path) -> Bundle:
    """Return a bundle that is searched by its graph, written with hnswlib."""
    pytest.importorskip("hnswlib")
    parts = make_recommender(users=60, items=400, trees=5)
    index = build_vector_index(
        IndexSettings(kind="hnsw", recall=1.0), parts.item_vectors, parts.catalogue
    )
    parts = replace(parts, index=index)
    facts = {"name": "planted", "config": {}, "metrics": {}, "reranker": {"earned": True}}
    return open_bundle(folder / bundle.write(folder, parts, facts))


def _items(answers: list[dict[str, Any]]) -> list[list[Any]]:
    return [[item["item_id"] for item in answer["items"]] for answer in answers]


def test_a_run_is_fitted_and_asked_and_says_so_once(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(storage=tmp_path / "runs"))
    said, logged = _python("-c", LARGE, "fit", file)
    assert logged.count("hnswlib is not installed: exact search instead of HNSW") == 1
    opened = open_bundle(said.splitlines()[-1])
    assert opened.manifest["index"]["used"] == "exact"
    assert "index.hnsw" not in opened.manifest["files"]
    assert (tmp_path / "runs" / "bare" / "report.html").exists()
    (user,) = opened.recommender.users.external(np.arange(1))
    answer, logged = _python("-m", "train", "recommend", opened.folder, "--user-id", user)
    assert "hnswlib" not in logged
    # Here it may be there, and the bundle opens too.
    expected = _items(recommend(opened.recommender, [Request(user_id=user)]))
    assert [[item["item_id"] for item in json.loads(answer)["items"]]] == expected


def test_a_small_catalogue_does_not_need_it_and_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(storage=tmp_path / "runs"))
    said, logged = _python("-m", "train", "fit", file, "--no-page", "--final-fit", "before_test")
    assert "hnswlib" not in logged
    assert open_bundle(said.splitlines()[-1]).manifest["index"]["used"] == "exact"


def test_what_needs_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(storage=tmp_path / "runs"))
    words = [sys.executable, "-m", "train", "fit", str(file), "--index.kind", "hnsw"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "index.kind = 'hnsw' needs hnswlib" in ended.stderr
    assert "epoch" not in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_a_bundle_with_a_graph_is_served(tmp_path: Path) -> None:
    made = _graph(tmp_path)
    users = made.recommender.users.external(np.arange(20))
    with serving(made.folder, "--topology", "fused") as (url, _):
        answers = [
            httpx.post(f"{url}/recommend", json={"user_id": user}, timeout=60).json()
            for user in users
        ]
    assert _items(answers) == _items(
        recommend(made.recommender, [Request(user_id=user) for user in users])
    )


def test_an_exported_model_answers(tmp_path: Path) -> None:
    made = _graph(tmp_path)
    export_mlflow(made, tmp_path / "model")
    # It says what it is fastest with, and answers without.
    assert "hnswlib==" in (tmp_path / "model" / "requirements.txt").read_text()
    users = made.recommender.users.external(np.arange(20))
    said, _ = _python("-c", PREDICT, tmp_path / "model", json.dumps(users), cwd=tmp_path)
    answers = json.loads(said.splitlines()[-1])
    expected = _items(recommend(made.recommender, [Request(user_id=user, k=10) for user in users]))
    assert [[item for item, _, _ in answer] for answer in answers] == expected


def test_a_model_of_exact_search_does_not_ask_for_it(tmp_path: Path) -> None:
    parts = make_recommender(users=30, items=60, trees=5)
    exact = build_vector_index(IndexSettings(kind="exact"), parts.item_vectors, parts.catalogue)
    parts = replace(parts, index=exact)
    place = tmp_path / bundle.write(tmp_path, parts, {"name": "planted", "config": {}})
    export_mlflow(open_bundle(place), tmp_path / "model")
    assert "hnswlib" not in (tmp_path / "model" / "requirements.txt").read_text()

"""Bundles as MLflow models, answered for by `mlflow models serve` itself."""

import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import cli
from cluster.ports import free_ports
from tests.bundles import write_bundle
from tests.mlflow_server import answering
from tests.waiting import BOUND
from train.__main__ import main
from train.bundle.bundle import Bundle, open_bundle
from train.recommender.answers import recommend
from train.recommender.requests import Request

ROOT = Path(__file__).parents[2]
NEW = 10**9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def model(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder that was moved since, of a bundle that is gone."""
    folder = tmp_path_factory.mktemp("models")
    copy = shutil.copytree(bundle.folder, folder / "bundle")
    main(["export", str(copy), "--to", "mlflow", "--out", str(folder / "first")])
    shutil.rmtree(copy)
    return (folder / "first").rename(folder / "moved")


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    port = free_ports(1)[0]
    words = f"python -m mlflow models serve -m moved --env-manager local -p {port}"
    with answering(words, port, model.parent) as place:
        yield place


def ask(url: str, data: list[list[Any]], columns: tuple[str, ...] = ("user_id", "k")) -> Any:
    body = json.dumps({"dataframe_split": {"columns": columns, "data": data}}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/invocations", body, headers)
    with urllib.request.urlopen(request, timeout=BOUND) as answer:
        return json.loads(answer.read())["predictions"]


def triples(bundle: Bundle, requests: list[Request]) -> list[list[list[Any]]]:
    """Return what `recommend` says as `[item id, score, title]`."""
    return [
        [[item["item_id"], item["score"], item.get("title")] for item in answer["items"]]
        for answer in recommend(bundle.recommender, requests)
    ]


def test_one_user_gets_k_triples(bundle: Bundle, url: str) -> None:
    (user,) = bundle.recommender.users.external(np.array([7]))
    (answer,) = ask(url, [[user, 10]])
    assert len(answer) == 10
    assert [answer] == triples(bundle, [Request(user_id=user, k=10)])


def test_every_row_is_answered_as_by_recommend(bundle: Bundle, url: str) -> None:
    users = bundle.recommender.users.external(np.arange(60))
    rows = [[user, 1 + number % 12] for number, user in enumerate(users)]
    expected = triples(bundle, [Request(user_id=user, k=k) for user, k in rows])
    assert ask(url, rows) == expected
    # Items without a title are among them.
    assert any(title is None for row in expected for _, _, title in row)


def test_unknown_users_get_what_is_popular(bundle: Bundle, url: str) -> None:
    (answer,) = ask(url, [[NEW, 5]])
    (told,) = recommend(bundle.recommender, [Request(user_id=NEW, k=5)])
    assert told["source"] == "popular"
    assert [answer] == triples(bundle, [Request(user_id=NEW, k=5)])


def test_as_many_come_as_there_are(bundle: Bundle, url: str) -> None:
    (answer,) = ask(url, [[NEW, 1000]])
    assert len(answer) == bundle.recommender.catalogue.sum()
    assert ask(url, []) == []


@pytest.mark.parametrize(
    ("columns", "row", "reason"),
    [
        (("user_id", "k"), [1000, 0], "k: expected from 1 to 1000, got 0"),
        (("user_id", "k"), [1000, 1001], "k: expected from 1 to 1000, got 1001"),
        (("user_id", "k"), ["Ann", 3], "Failed to convert column user_id to type 'int64'"),
        (("user_id", "k"), [None, 3], "Failed to convert column user_id to type 'int64'"),
        (("user_id",), [1000], "Model is missing inputs ['k']"),
    ],
    ids=["none", "too many", "another type", "null", "no k"],
)
def test_bad_input_is_a_400_with_the_reason(
    columns: tuple[str, ...], row: list[Any], reason: str, url: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(url, [row], columns)
    assert refused.value.code == 400
    told = json.loads(refused.value.read())
    assert reason in told["message"]
    assert "stack_trace" not in told


def test_the_model_asks_for_the_pinned_versions_and_holds_no_pickle(model: Path) -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    needed = (model / "requirements.txt").read_text().splitlines()
    assert "mlflow-skinny" in {line.split("==")[0] for line in needed}
    assert set(needed) <= set(pins)
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle")]


def exit_of(*words: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.run(main, [*map(str, words)])
    return ended.value.code


def test_nothing_is_written_over(
    bundle: Bundle, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(model.rglob("*"))
    assert exit_of("export", bundle.folder, "--to", "mlflow", "--out", model)
    assert "is there already" in capsys.readouterr().err
    assert sorted(model.rglob("*")) == before


def test_what_fails_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.export.mlflow_model.NEEDED", ("no-such-package",))
    with pytest.raises(ModuleNotFoundError):
        from train.export.mlflow_model import export_mlflow

        export_mlflow(bundle, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_without_mlflow_it_is_said_what_to_install(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, "train.export.mlflow_model", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert exit_of("export", bundle.folder, "--to", "mlflow", "--out", tmp_path / "model")
    assert "install: pip install -c constraints.txt mlflow-skinny" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""Bundles in other formats, run by what others run them with."""

from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster import cli
from tests.bundles import write_bundle
from tests.integration.test_fit import make_run
from tests.integration.test_scores import BY_SCORE, SHORT
from train.__main__ import main
from train.bundle.bundle import Bundle, open_bundle
from train.core.ragged import Ragged
from train.export.onnx_model import export_onnx, run_onnx
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.requests import Request


@pytest.fixture(scope="module", params=["euclidean", "of a graph", "of states", "of pairs"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    tower, loss = BY_SCORE[request.param]
    table, place = {"width": 8, "history": 10, **tower}, tmp_path_factory.mktemp("runs")
    return open_bundle(fit(make_run(place, **SHORT, tower=table, loss=loss)))


@pytest.fixture(scope="module")
def exported(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "onnx"
    assert max(export_onnx(bundle, folder).values()) < 1e-4
    return folder


def test_the_towers_give_the_vectors_of_the_bundle(bundle: Bundle, exported: Path) -> None:
    users = np.arange(40)
    history = torch.tensor(bundle.recommender.histories.take(users).last(10)).long()
    asked = {"users": torch.tensor(users), "history": history}
    (found,) = run_onnx(exported / "user_tower.onnx", asked)
    np.testing.assert_allclose(found, bundle.recommender.user_vectors[users], rtol=1e-5, atol=1e-5)
    (items,) = run_onnx(
        exported / "item_tower.onnx", {"items": torch.arange(len(bundle.recommender.items))}
    )
    np.testing.assert_allclose(items, bundle.recommender.item_vectors, rtol=1e-5, atol=1e-5)


def test_someone_new_is_encoded_from_a_history(bundle: Bundle, exported: Path) -> None:
    asked = {"users": torch.tensor([-1]), "history": torch.tensor([[-1] * 8 + [3, 4]])}
    (found,) = run_onnx(exported / "user_tower.onnx", asked)
    expected = bundle.recommender.encode_users(np.array([-1]), Ragged.from_rows([[3, 4]]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_scores_are_those_of_the_answers(bundle: Bundle, exported: Path) -> None:
    ids = bundle.recommender.users.external(np.arange(30))
    answers = recommend(bundle.recommender, [Request(user_id=user, k=3) for user in ids])
    users = {id: index for index, id in enumerate(table(exported / "users.arrow", "user_id"))}
    items = {id: index for index, id in enumerate(table(exported / "items.arrow", "item_id"))}
    personal = [answer["source"] == "personal" for answer in answers]
    assert sum(personal) > len(ids) / 2
    for user, answer in compress(zip(ids, answers, strict=True), personal):
        asked = {
            "users": torch.tensor([users[user]] * 3),
            "items": torch.tensor([items[item["item_id"]] for item in answer["items"]]),
        }
        (scores,) = run_onnx(exported / "score.onnx", asked)
        told = [item["score"] for item in answer["items"]]
        np.testing.assert_allclose(scores, told, rtol=1e-4, atol=1e-4)


def table(path: Path, column: str) -> list[Any]:
    with pa.OSFile(str(path), "rb") as file:
        return list(pa.ipc.open_file(file).read_all()[column].to_pylist())


def test_nothing_is_written_over(bundle: Bundle, exported: Path) -> None:
    with pytest.raises(FileExistsError, match="is there already"):
        export_onnx(bundle, exported)
    assert [path.name for path in exported.parent.iterdir()] == ["onnx"]


def test_a_bundle_without_a_tower_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, out = write_bundle(tmp_path / "bundles"), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["export", str(place), "--to", "onnx", "--out", str(out)])
    assert ended.value.code
    assert "has no tower" in capsys.readouterr().err
    assert not out.exists()

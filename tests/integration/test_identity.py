"""A name stands for one run: the same settings and data go on with it, others are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.driver import events, make_run, write
from train.config import Run
from train.data.encoded import encode
from train.data.snapshot import fingerprint
from train.fit import fit
from train.tracking.mlflow_tracker import MLflow

REFUSED = "exists with another configuration"


@pytest.fixture
def ran(tmp_path: Path) -> tuple[Run, str]:
    """Return a run that is complete, without a reranker, and its bundle."""
    run = make_run(write(tmp_path / "data", events()), tmp_path / "runs", reranker="none")
    return run, fit(run)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_run_goes_on_however_it_is_told_of(ran: tuple[Run, str], tmp_path: Path) -> None:
    run, place = ran
    files = contents(tmp_path / "runs")
    assert fit(run) == place
    assert fit(run.model_copy(update={"page": True, "tracking": MLflow()})) == place
    assert contents(tmp_path / "runs") == files


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"tower": {"width": 4}}, "tower.width"),
        ({"train": {"epochs": 3}, "candidates": 9}, "candidates, train.epochs"),
        ({"loss": "bpr"}, "loss.*loss.name"),
        ({"split": {"min_user_test": 2}}, "split.min_user_test"),
        ({"evaluation": {"k": 5}}, "evaluation.k"),
        ({"reranker": {"name": "catboost"}}, "reranker.name"),
    ],
)
def test_another_configuration_is_refused_and_leaves_all_as_it_was(
    ran: tuple[Run, str], tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    run, place = ran
    files = contents(tmp_path / "runs")
    other = make_run(tmp_path / "data", tmp_path / "runs", **{"reranker": "none", **changes})
    with pytest.raises(ValueError, match=rf"{REFUSED} \(.*{named}.* changed\)"):
        fit(other)
    assert contents(tmp_path / "runs") == files
    assert fit(run) == place


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "interrupted"])
def test_other_data_in_the_same_files_are_refused(
    ran: tuple[Run, str], tmp_path: Path, complete: bool
) -> None:
    run, place = ran
    if not complete:
        (tmp_path / "runs" / run.name / "done.json").unlink()
    write(tmp_path / "data", events(seeds=(1, 2, 4)))
    files = contents(tmp_path / "runs")
    with pytest.raises(ValueError, match=rf"{REFUSED} \(the data changed\)"):
        fit(run)
    assert contents(tmp_path / "runs") == files
    # The same data, written anew in another order, are the same.
    of = events()
    turned = {name: column[::-1] for name, column in of.items()}
    write(tmp_path / "data", turned)
    if complete:
        assert fit(run) == place


def column(folder: Path, file: str, name: str, row: int, value: Any) -> None:
    """Replace a value in a table that `write` wrote."""
    table = pq.read_table(folder / file)
    values = table[name].to_pylist()
    if value == "a second later":  # which leaves the order as it is
        value = values[row] + 1
    assert values[row] != value
    values[row] = value
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(values, table[name].type)), folder / file)


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("interactions", "item_id", 5),
        ("interactions", "user_id", 1001),
        ("interactions", "timestamp", "a second later"),
        ("interactions", "rating", 0.5),
        ("items", "kind", "another kind"),
        ("items", "length", 9.5),
        ("items", "item_id", 4),
        ("users", "age", 9.5),
        ("users", "user_id", 999),
    ],
)
def test_a_single_value_makes_it_other_data(
    tmp_path: Path, file: str, name: str, value: Any
) -> None:
    def found() -> str:
        return fingerprint(encode(make_run(tmp_path, tmp_path).data.load()))

    write(tmp_path, events())
    first = found()
    assert found() == first
    column(tmp_path, f"{file}.parquet", name, 0, value)
    assert found() != first
    write(tmp_path, events())
    assert found() == first


def test_ids_alone_make_it_other_data(tmp_path: Path) -> None:
    """Other names in the same order are encoded alike."""
    write(tmp_path, events())
    first = encode(make_run(tmp_path, tmp_path).data.load())
    for file, name in (("interactions", "item_id"), ("items", "item_id")):
        table = pq.read_table(tmp_path / f"{file}.parquet")
        ids = pa.array(table[name].to_numpy() + 1)
        at = table.column_names.index(name)
        pq.write_table(table.set_column(at, name, ids), tmp_path / f"{file}.parquet")
    other = encode(make_run(tmp_path, tmp_path).data.load())
    np.testing.assert_array_equal(first.interactions.item, other.interactions.item)
    assert fingerprint(first) != fingerprint(other)

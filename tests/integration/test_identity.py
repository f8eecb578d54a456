"""A name stands for one run: the same settings and data go on with it, others are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.lease import leased
from tests.driver import events, make_run, write
from train.config import Run
from train.data.encoded import encode
from train.data.snapshot import fingerprint
from train.fit import fit
from train.identity import run_identity
from train.tracking.mlflow_tracker import MLflow

REFUSED = "exists with another configuration"


@pytest.fixture
def ran(tmp_path: Path) -> tuple[Run, str]:
    """Return a run that is complete, without a reranker, and its bundle."""
    run = make_run(write(tmp_path / "data", events()), tmp_path / "runs", reranker="none")
    return run, fit(run)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(run: Run, **tables: dict[str, Any]) -> Run:
    """Return a run with keys of some tables replaced."""
    every = {name: getattr(run, name).model_copy(update=of) for name, of in tables.items()}
    return run.model_copy(update=every)


def test_the_same_run_goes_on_however_the_work_is_shared_out(
    ran: tuple[Run, str], tmp_path: Path
) -> None:
    run, place = ran
    files = contents(tmp_path / "runs")
    assert fit(run) == place
    assert run.train.workers == 0
    assert fit(changed(run, train={"workers": 1, "threads": 1, "max_failures": 7})) == place
    assert contents(tmp_path / "runs") == files


def test_the_same_data_in_another_place_are_the_same(ran: tuple[Run, str], tmp_path: Path) -> None:
    _, place = ran
    (tmp_path / "data").rename(tmp_path / "moved")
    assert fit(make_run(tmp_path / "moved", tmp_path / "runs", reranker="none")) == place


def test_what_a_complete_run_lacks_is_made_up(ran: tuple[Run, str], tmp_path: Path) -> None:
    run, place = ran
    told = run.model_copy(update={"page": True, "tracking": MLflow()})
    assert fit(told) == place
    page = Path(run.storage) / run.name / "report.html"
    assert page.exists()
    assert (tmp_path / "runs" / "mlflow.db").exists()
    files = contents(tmp_path / "runs")
    assert fit(told) == place
    assert contents(tmp_path / "runs") == files
    page.unlink()
    assert fit(told) == place
    assert page.exists()


def test_a_bundle_without_the_record_of_its_run_is_no_complete_run(ran: tuple[Run, str]) -> None:
    run, place = ran
    (Path(run.storage) / run.name / "run.json").unlink()
    assert fit(run) != place


def test_a_run_that_ended_with_an_error_leaves_its_name(tmp_path: Path) -> None:
    data = write(tmp_path / "data", events())
    diverging = make_run(data, tmp_path / "runs", reranker="none", train={"learning_rate": 1e30})
    with pytest.raises(ValueError, match=r"loss is nan .* lower train.learning_rate"):
        fit(diverging)
    record = json.loads((tmp_path / "runs" / diverging.name / "run.json").read_text())
    assert "lower train.learning_rate" in record["error"]
    place = fit(make_run(data, tmp_path / "runs", reranker="none"))
    assert "error" not in json.loads((Path(place).parents[1] / "run.json").read_text())


def test_what_was_trained_before_an_error_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(write(tmp_path / "data", events()), tmp_path / "runs", reranker="none")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("train.bundle.bundle.write", full)
        with pytest.raises(OSError, match="No space"):
            fit(run)
    with pytest.raises(ValueError, match=rf"{REFUSED} .*it ended with: .*No space left"):
        fit(changed(run, train={"learning_rate": 0.5}))
    assert fit(run)


def test_a_run_is_fitted_by_one_process(ran: tuple[Run, str]) -> None:
    run, place = ran
    home = str(Path(run.storage) / run.name)
    with leased(home), pytest.raises(ValueError, match="is being written by process"):
        fit(run.model_copy(update={"page": True}))
    assert fit(run) == place


def test_titles_make_it_other_data(tmp_path: Path) -> None:
    write(tmp_path, events())
    run = changed(make_run(tmp_path, tmp_path), data={"title": "kind", "item_columns": {}})
    first = run_identity(run, encode(run.data.load()))
    column(tmp_path, "items.parquet", "kind", 0, "another kind")
    assert run_identity(run, encode(run.data.load())) != first


@pytest.mark.parametrize("reranker", ["none", "catboost"])
def test_equal_runs_are_equal_bytes(tmp_path: Path, reranker: str) -> None:
    data = write(tmp_path / "data", events())
    places = [fit(make_run(data, tmp_path / n, reranker={"name": reranker})) for n in ("a", "b")]
    versions = [Path(place).name.rpartition("-")[2] for place in places]
    assert versions[0] == versions[1]


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

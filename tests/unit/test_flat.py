"""Items inside the interactions: the last row of each id, whatever the order of the rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.core.schema import Tables
from train.datasets.files import Files

ROWS: dict[str, Any] = {
    "user_id": [1, 2, 3, 1, 2, 3, 9],
    "item_id": ["a", "a", "a", "b", "b", "c", "d"],
    "timestamp": [10, 30, 20, 5, 5, 7, 1],
    # The last row of a has no name; b ties, and so do c's columns of one row.
    "label": ["old", None, "older", "beta", "alpha", "gamma", "delta"],
    "tags": ["x", "y|z", "", "x", "x|y", "", "q"],
    "price": [1.0, 2.0, 3.0, 4.0, 4.0, None, 6.0],
    "v": [[1.0, 2.0], None, [3.0, 4.0], [0.0, 1.0], [0.0, 2.0], [5.0, 5.0], None],
}
KINDS = {"tags": "categories", "price": "number", "v": "embedding"}


def load(place: Path, rows: pa.Table, **options: Any) -> Tables:
    pq.write_table(rows, place / "lines.parquet")
    table = {
        "interactions": str(place / "lines.parquet"),
        "timestamp_unit": "order",
        "items": "interactions",
        "title": "label",
        "item_columns": KINDS,
    }
    return Files.model_validate(table | options).load()


def items(tables: Tables) -> dict[str, dict[str, Any]]:
    return {row.pop("item_id"): row for row in tables.items.to_pylist()}


@pytest.mark.parametrize("seed", range(4))
def test_the_last_row_of_an_id_counts_and_the_order_of_the_rows_does_not(
    tmp_path: Path, seed: int
) -> None:
    rows = pa.table(ROWS).take(np.random.default_rng(seed).permutation(7))
    tables = load(tmp_path, rows)
    found = items(tables)
    assert found["a"] == {"title": None, "tags": ["y", "z"], "price": 2.0, "v": None}
    # Of equal times the title that comes last in order.
    assert found["b"] == {"title": "beta", "tags": ["x"], "price": 4.0, "v": [0.0, 1.0]}
    assert found["c"] == {"title": "gamma", "tags": [], "price": None, "v": [5.0, 5.0]}
    assert found["d"]["title"] == "delta"
    assert len(tables.items) == 4
    assert len(tables.interactions) == 7
    assert tables.item_columns == KINDS


def test_without_a_title_the_next_columns_decide(tmp_path: Path) -> None:
    kinds = {"price": "number", "tags": "categories", "v": "embedding"}
    found = items(load(tmp_path, pa.table(ROWS), title=None, item_columns=kinds))
    assert found["b"] == {"title": None, "tags": ["x", "y"], "price": 4.0, "v": [0.0, 2.0]}
    found = items(load(tmp_path, pa.table(ROWS), title=None, item_columns={"v": "embedding"}))
    assert found["b"]["v"] == [0.0, 2.0]


def test_a_missing_value_comes_before_all_others(tmp_path: Path) -> None:
    rows = {name: [column[0]] * 3 for name, column in ROWS.items()}
    rows["price"] = [None, -5.0, None]
    for order in ([0, 1, 2], [1, 0, 2], [2, 0, 1]):
        found = items(load(tmp_path, pa.table(rows).take(order)))
        assert found["a"]["price"] == -5.0


def test_the_last_of_the_rows_where_rows_decide(tmp_path: Path) -> None:
    found = items(load(tmp_path, pa.table(ROWS), ties="rows"))
    assert found["b"]["title"] == "alpha"
    assert found["a"]["title"] is None


def test_without_times_the_values_decide(tmp_path: Path) -> None:
    rows = pa.table(ROWS).drop_columns(["timestamp"])
    for order in (range(7), range(6, -1, -1)):
        found = items(load(tmp_path, rows.take(list(order))))
        assert found["a"] == {"title": "older", "tags": [], "price": 3.0, "v": [3.0, 4.0]}


def test_finer_times_than_seconds_decide(tmp_path: Path) -> None:
    rows = {**ROWS, "timestamp": [n * 300 for n in (1, 2, 0, 1, 2, 0, 0)]}
    found = items(load(tmp_path, pa.table(rows), timestamp_unit="ms"))
    assert (found["a"]["title"], found["b"]["title"]) == (None, "alpha")


def test_a_column_may_be_an_attribute_and_a_weight(tmp_path: Path) -> None:
    rows = {**ROWS, "price": [1.0, 2.0, 3.0, 4.0, 4.0, 8.0, 6.0]}
    tables = load(tmp_path, pa.table(rows), weight="price")
    assert sorted(tables.interactions["weight"].to_pylist()) == sorted(rows["price"])
    assert items(tables)["d"]["price"] == 6.0


def test_a_missing_or_wrong_column_is_named_with_its_file_and_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lines.parquet: no column 'name'; it has: user_id"):
        load(tmp_path, pa.table(ROWS), title="name")
    text = {**ROWS, "price": ["1", "2", "3", "4", "4", "five", "6"]}
    with pytest.raises(ValueError, match=r"column 'price' \(7 rows\): .* 'five' \(row 6\)"):
        load(tmp_path, pa.table(text))

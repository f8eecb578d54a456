"""A user's own files for tests: a column, and tables read from files that are written here."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from train.core.schema import Tables
from train.datasets.columns import Column
from train.datasets.files import Files

# A moment, in seconds.
NOON = int(datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp())
EVENTS = "user_id,item_id,timestamp\n7,a,100\n8,b,200\n7,b,50\n"


def column(values: Any, kind: pa.DataType | None = None) -> Column:
    array = pa.array(values, kind)
    written = kind is None and pa.types.is_string(array.type)
    return Column("t.csv", "c", pa.chunked_array([array]), written=written)


def load(folder: Path, files: dict[str, str], **settings: Any) -> Tables:
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    sides = {side: str(folder / f"{side}.csv") for side in ("items", "users")}
    given = {side: path for side, path in sides.items() if f"{side}.csv" in files}
    # Times of these tables are small numbers, which are no seconds.
    order = {"timestamp_unit": "order"}
    return Files(interactions=str(folder / "events.csv"), **{**order, **given, **settings}).load()

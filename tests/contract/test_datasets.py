"""What holds for every data set."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests import small_movielens as small
from tests import small_published as published
from train.core.schema import Tables
from train.datasets import DATASETS
from train.datasets.amazon import Amazon
from train.datasets.base import Dataset
from train.datasets.files import Files
from train.datasets.generated import Generated
from train.datasets.kion import Kion
from train.datasets.movielens import MovieLens1M, MovieLens20M, MovieLens100k

TYPES = {
    "category": pa.types.is_string,
    "categories": lambda kind: pa.types.is_list(kind) and pa.types.is_string(kind.value_type),
    "number": pa.types.is_float32,
    "flag": pa.types.is_boolean,
    "text": pa.types.is_string,
    "embedding": lambda kind: (
        pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type)
    ),
}


def _files(folder: Path) -> Files:
    (folder / "events.csv").write_text(
        "user_id,item_id,timestamp\nu,1,2024-01-01\nv,2,2024-01-02\n"
    )
    (folder / "items.csv").write_text("item_id,name,a,b,c,d,e,v0\n2,T,x,x|y,1,yes,words,0.5\n")
    return Files(
        interactions=str(folder / "events.csv"),
        items=str(folder / "items.csv"),
        title="name",
        item_columns={
            "a": "category",
            "b": "categories",
            "c": "number",
            "d": "flag",
            "e": "text",
            "v": "embedding",
        },
    )


# A small one of each; a data set without an example here fails.
EXAMPLES: dict[str, Callable[[Path], Dataset]] = {
    "movielens-100k": lambda f: MovieLens100k(path=small.grouplens_100k(f / "ml.zip")),
    "movielens-1m": lambda f: MovieLens1M(path=small.grouplens_1m(f / "ml.zip")),
    "movielens-20m": lambda f: MovieLens20M(path=small.grouplens_20m(f / "ml.zip")),
    "kion": lambda f: Kion(path=published.kion(f / "data_original")),
    "amazon": lambda f: Amazon(**published.amazon_2018(f)),
    "files": _files,
    "generated": lambda _: Generated(users=50, items=30, interactions=300, embedding=3),
}


@pytest.fixture(params=DATASETS)
def dataset(request, tmp_path) -> Dataset:
    return EXAMPLES[request.param](tmp_path)


def test_is_named_by_its_key(dataset):
    assert [k for k, v in DATASETS.items() if v is type(dataset)] == [dataset.model_dump()["name"]]
    again = type(dataset).model_validate_json(dataset.model_dump_json())
    assert again == dataset
    assert type(dataset).__doc__


def test_interactions_are_canonical(dataset):
    table = dataset.load().interactions
    assert table.column_names == ["user_id", "item_id", "timestamp", "weight"]
    assert table.schema.field("timestamp").type == pa.int64()
    assert table.schema.field("weight").type == pa.float32()
    assert len(table)
    assert not any(column.null_count for column in table.columns)


@pytest.mark.parametrize("side", ["item", "user"])
def test_sides_are_canonical(dataset, side):
    tables: Tables = dataset.load()
    table, columns = getattr(tables, f"{side}s"), getattr(tables, f"{side}_columns")
    first = ["item_id", "title"] if side == "item" else ["user_id"]
    assert table.column_names == first + list(columns)
    for name, kind in columns.items():
        assert TYPES[kind](table[name].type), name
    ids = table[f"{side}_id"]
    told = tables.interactions[f"{side}_id"].type
    assert ids.type == (told.value_type if pa.types.is_dictionary(told) else told)
    assert ids.type in (pa.int64(), pa.string())
    assert len(ids.unique()) == len(ids)
    if side == "item":
        assert pa.types.is_string(table["title"].type)


def test_loading_again_gives_the_same(dataset):
    first, again = dataset.load(), dataset.load()
    for table in ("interactions", "items", "users"):
        assert getattr(first, table).equals(getattr(again, table))


def test_a_weight_that_none_reaches_is_an_error(dataset):
    with pytest.raises(ValueError, match="no interaction has a weight of at least 1e\\+06"):
        dataset.model_copy(update={"min_weight": 1e6}).load()

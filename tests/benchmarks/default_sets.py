"""Tables of six public data sets as their owners have them: nothing is set but the columns.

FOLDER has `ml-100k.zip` and `ml-1m.zip` (GroupLens's layout), `lastfm/user_artists.dat` and
`artists.dat` (HetRec 2011), `online-retail/transactions.parquet` (UCI Online Retail II),
`amazon-beauty/interactions.parquet` and `items.parquet`, and `gowalla/train.txt.gz` and
`test.txt.gz` (LightGCN's).
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tests.benchmarks.quality import TEST, gowalla

Prepare = Callable[[Path, Path], dict[str, Any]]


def movielens(name: str, archive: str, data: Path, _tables: Path) -> dict[str, Any]:
    """MovieLens, by the reader of its archives; its default cut is in time."""
    return {"data": {"name": name, "path": str(data / archive)}}


def lastfm(data: Path, tables: Path) -> dict[str, Any]:
    """Last.fm: which artists users listened to; the file has no times."""
    options = pacsv.ParseOptions(delimiter="\t", quote_char=False)
    plays = pacsv.read_csv(data / "lastfm" / "user_artists.dat", parse_options=options)
    artists = pacsv.read_csv(data / "lastfm" / "artists.dat", parse_options=options)
    pq.write_table(plays.rename_columns(["user_id", "item_id", "plays"]), tables / "plays.parquet")
    columns = artists.select(["id", "name"]).rename_columns(["item_id", "name"])
    pq.write_table(columns, tables / "artists.parquet")
    return {
        "data": {
            **files(tables / "plays.parquet"),
            "items": str(tables / "artists.parquet"),
            "title": "name",
        }
    }


def online_retail(data: Path, tables: Path, **settings: Any) -> dict[str, Any]:
    """A shop's invoices: lines of customers that were not cancelled, of articles."""
    lines = pq.read_table(data / "online-retail" / "transactions.parquet")
    sold = pc.and_(pc.is_valid(lines["Customer ID"]), pc.greater(lines["Quantity"], 0))
    article = pc.match_substring_regex(lines["StockCode"], r"^\d{5}")
    lines = lines.filter(pc.and_(sold, article)).sort_by("InvoiceDate")
    columns = {"Customer ID": "user_id", "StockCode": "item_id", "InvoiceDate": "timestamp"}
    sales = lines.select(list(columns)).rename_columns(list(columns.values()))
    sales = sales.set_column(0, "user_id", sales["user_id"].cast(pa.int64()))
    named = lines.group_by("StockCode", use_threads=False).aggregate([("Description", "last")])
    pq.write_table(sales, tables / "sales.parquet")
    pq.write_table(
        pa.table({"item_id": named["StockCode"], "title": named["Description_last"]}),
        tables / "articles.parquet",
    )
    items = {"items": str(tables / "articles.parquet"), "title": "title"}
    return {"data": {**files(tables / "sales.parquet"), **items}, **settings}


def beauty(data: Path, _tables: Path) -> dict[str, Any]:
    """Amazon Beauty: the order within each user alone is known, so the last of each is the test."""
    folder = data / "amazon-beauty"
    columns = {"brand": "category", "categories": "categories", "price": "number"}
    items = {"items": str(folder / "items.parquet"), "title": "title", "item_columns": columns}
    table = {
        **files(folder / "interactions.parquet"),
        "timestamp": "position",
        "timestamp_unit": "order",
        **items,
    }
    return {"data": table, "split": {"name": "leave_last"}}


def gowalla_checks(data: Path, tables: Path) -> dict[str, Any]:
    """Gowalla's check-ins by LightGCN's split, in a drawn order: there are no times."""
    place = gowalla(data, tables)
    return {
        "data": {**files(place), "timestamp_unit": "order"},
        "split": {"name": "time", "at": TEST, "validation_quantile": 0.9},
    }


def files(interactions: Path) -> dict[str, Any]:
    """Return the settings of the data set `files` for a table of interactions."""
    return {"name": "files", "interactions": str(interactions)}


SETS: Mapping[str, Prepare] = {
    "ml-100k": partial(movielens, "movielens-100k", "ml-100k.zip"),
    "ml-1m": partial(movielens, "movielens-1m", "ml-1m.zip"),
    "lastfm": lastfm,
    "online-retail": online_retail,
    "online-retail-again": partial(online_retail, seen="allow"),
    "beauty": beauty,
    "gowalla": gowalla_checks,
}

"""The data set `amazon`: reviews and products of McAuley's group, JSON lines, plain or gzipped.

Ni, Li and McAuley, Justifying Recommendations using Distantly-Labeled Reviews, 2019 (the files of
2018, https://nijianmo.github.io/amazon); McAuley and others, Image-based Recommendations on Styles
and Substitutes, 2015 (those of 2014). They are not fetched, but read where they are.
"""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from train.core.schema import Kind, Tables
from train.datasets.base import Dataset, given_path
from train.datasets.columns import Column, fail
from train.datasets.convert import categories, category, number, text

ITEM_COLUMNS: dict[str, Kind] = {
    "title_text": "text",
    "brand": "category",
    "categories": "categories",
    "price": "number",
}

_REVIEWS = {
    "reviewerID": pa.string(),
    "asin": pa.string(),
    "unixReviewTime": pa.int64(),
    "overall": pa.float64(),
}

_PRODUCTS = {"asin": pa.string(), "title": pa.string(), "brand": pa.string()}

# Further fields of products, whose types differ between the years.
_OF_2018 = {"category": pa.list_(pa.string()), "price": pa.string()}

_OF_2014 = {"categories": pa.list_(pa.list_(pa.string())), "price": pa.float64()}

_BLOCK = 1 << 24  # bytes parsed at a time: the longest line has to fit


def read(reviews: Path, products: Path | None) -> Tables:
    """Read reviews, and products (`meta_...`) of 2018, or of 2014 once they are valid JSON.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no JSON lines, or a field is missing or of another type.
    """
    table = _table(reviews, _REVIEWS)
    for name in _REVIEWS:
        missing = pc.is_null(table[name])
        if pc.any(missing).as_py():
            fail(Column(str(reviews), name, table[name]), missing, "a value", "Drop these lines")
    events = table.rename_columns(["user_id", "item_id", "timestamp", "weight"])
    return Tables(
        interactions=events,
        items=_items(products) if products else _only_ids(events),
        users=pa.table({"user_id": events["user_id"].unique()}),
        item_columns=ITEM_COLUMNS if products else {},
        user_columns={},
    )


def _only_ids(events: pa.Table) -> pa.Table:
    ids = events["item_id"].unique()
    return pa.table({"item_id": ids, "title": pa.nulls(len(ids), pa.string())})


def _items(path: Path) -> pa.Table:
    """Return the products, the first one of each id."""
    newer = "category" in _first(path)
    table = _table(path, _PRODUCTS | (_OF_2018 if newer else _OF_2014))
    codes = table["asin"].combine_chunks().dictionary_encode().indices
    table = table.take(np.sort(np.unique(codes.to_numpy(), return_index=True)[1]))
    read = {name: Column(str(path), name, table[name]) for name in table.column_names}
    title = _title(text(read["title"]))
    lists = read["category"] if newer else _joined(read["categories"])
    price = _dollars(read["price"]) if newer else read["price"]
    return pa.table(
        {
            "item_id": table["asin"],
            "title": title,
            "title_text": title,
            "brand": category(read["brand"]),
            "categories": categories(lists),
            "price": number(price),
        }
    )


def _title(titles: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the titles, null where one is the script of the page, as in some of 2018."""
    script = pc.match_substring(titles, "getTime")
    titles = pc.if_else(script, pa.scalar(None, pa.string()), titles)
    return pc.replace_substring(titles, "&amp;", "&")


def _dollars(prices: Column) -> Column:
    """Return `$1,234.50` as numbers; of a range the lower end, of anything else null."""
    matched = pc.extract_regex(prices.values, r"^\s*\$(?P<price>[0-9,]+[.]?[0-9]*)")
    plain = pc.replace_substring(pc.struct_field(matched, "price"), ",", "")
    return Column(prices.source, prices.name, plain)


def _joined(paths: Column) -> Column:
    """Return all categories of all of a product's paths through the tree, as one list."""
    lists = paths.values.combine_chunks()
    offsets = lists.values.offsets.take(lists.offsets)
    joined = pa.ListArray.from_arrays(offsets, lists.values.values)
    return Column(paths.source, paths.name, pa.chunked_array([joined]))


def _first(path: Path) -> dict[str, Any]:
    """Return the first line's object."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as lines:
            return dict(json.loads(lines.readline()))
    except (ValueError, TypeError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: expected a JSON object a line: {error}. The products of 2014 are in Python's "
            "notation: write each line anew, json.dumps(ast.literal_eval(line))"
        ) from error


def _table(path: Path, fields: Mapping[str, pa.DataType]) -> pa.Table:
    """Read these fields of each line, null where a line has none."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; looked for {path.absolute()}")
    there = _first(path)
    if "asin" not in there:
        raise ValueError(f"{path}: no field 'asin' in its first line; it has: {', '.join(there)}")
    parse = pa.json.ParseOptions(
        explicit_schema=pa.schema(list(fields.items())), unexpected_field_behavior="ignore"
    )
    try:
        return pa.json.read_json(path, pa.json.ReadOptions(block_size=_BLOCK), parse)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: cannot be read as JSON lines: {error}") from error


class Amazon(Dataset):
    """Reviews of one of Amazon's categories, as McAuley's group publishes them.

    Attributes:
        reviews: JSON lines such as `All_Beauty.json.gz`; they are not fetched.
        products: JSON lines such as `meta_All_Beauty.json.gz`; without them items are ids alone.
    """

    name: Literal["amazon"] = "amazon"
    reviews: Path | None = None
    products: Path | None = None

    def read(self) -> Tables:
        """Read the tables."""
        place = "nijianmo.github.io/amazon"
        reviews = given_path(self.reviews, self.name, "reviews", "the reviews of a category", place)
        return read(reviews, self.products)

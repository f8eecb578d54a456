"""The encoded data set: id maps, interactions and attributes in indices."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from train.core.features import Features
from train.core.schema import Interactions, Kind, Tables
from train.data.columns import Columns
from train.data.encoders import Encoder, embedding_rows, fit_embedding
from train.data.ids import IdMap
from train.data.ties import Rows, ordered


@dataclass(frozen=True)
class Encoded:
    """A data set in indices: what training, evaluation and the bundle work with.

    Attributes:
        attributes: sha256 over those of users and items as they were read. What they are encoded
            to differs in the last bits between processors and numbers of threads.
        tied_users: users who have several items at their last time.
        reading: what was read, as `Tables` says.
        item_columns: attributes of the items as they were declared.
    """

    users: IdMap
    items: IdMap
    interactions: Interactions
    user_features: Features
    item_features: Features
    user_encoder: Encoder
    item_encoder: Encoder
    titles: pa.Array
    attributes: str
    tied_users: int = 0
    reading: Mapping[str, Any] = field(default_factory=dict)
    item_columns: Columns = field(default_factory=Columns)


def encode(tables: Tables) -> Encoded:
    """Number the users and items of all three tables, fit the encoders and encode everything."""
    users = IdMap.of(tables.interactions["user_id"], tables.users["user_id"])
    items = IdMap.of(tables.interactions["item_id"], tables.items["item_id"])
    interactions, tied_users = _ordered(tables, users, items)
    known_users, known_items = _sides(tables)
    user_encoder = Encoder.fit(known_users, tables.user_columns)
    item_encoder = Encoder.fit(known_items, tables.item_columns)
    user_table = _aligned(known_users, "user_id", users)
    item_table = _aligned(known_items, "item_id", items)
    return Encoded(
        users=users,
        items=items,
        interactions=interactions,
        user_features=user_encoder.encode(user_table),
        item_features=item_encoder.encode(item_table),
        user_encoder=user_encoder,
        item_encoder=item_encoder,
        titles=item_table["title"].combine_chunks(),
        attributes=_digest((user_table, tables.user_columns), (item_table, tables.item_columns)),
        tied_users=tied_users,
        reading=tables.reading,
        item_columns=Columns.of(item_table, tables.item_columns),
    )


def _ordered(tables: Tables, users: IdMap, items: IdMap) -> tuple[Interactions, int]:
    """Return the interactions by user and time, and how many users have several at the last one."""
    events = tables.interactions
    names = [name for name in events.column_names if name[-3:] != "_id"]
    if pc.all(pc.equal(events["weight"], 1)).as_py():
        names.remove("weight")
    there = {name: events[name].to_numpy() for name in names}
    rows = Rows(users.index(events["user_id"]), items.index(events["item_id"]), **there)
    return ordered(rows, users, items, tables.ties)


def _sides(tables: Tables) -> tuple[pa.Table, pa.Table]:
    """Return the tables of users and items, by id unless the order of rows is to count."""
    sides = {"user_id": tables.users, "item_id": tables.items}
    if tables.ties == "rows":
        return tables.users, tables.items
    # Sums over rows round by their order.
    users, items = (table.take(pc.sort_indices(table[key])) for key, table in sides.items())
    return users, items


def _digest(*sides: tuple[pa.Table, Mapping[str, Kind]]) -> str:
    """Return a sha256 over the columns of tables, whose rows are in the order of their ids."""
    sha = hashlib.sha256()
    for table, columns in sides:
        for name, kind in columns.items():
            column = table[name].combine_chunks()
            sha.update(f"{name} {kind}\n".encode())
            # Numbers as they are, for text of them takes long.
            if kind == "number":
                sha.update(pc.fill_null(column, float("nan")).to_numpy().tobytes())
            elif kind == "embedding":
                sha.update(embedding_rows(column, fit_embedding(column)).tobytes())
            else:
                sha.update(json.dumps(column.to_pylist()).encode())
    return sha.hexdigest()


def _aligned(table: pa.Table, key: str, ids: IdMap) -> pa.Table:
    return table.take(pc.index_in(ids.ids, value_set=table[key].combine_chunks()))

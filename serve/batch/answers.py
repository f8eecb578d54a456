"""Recommendations to many users as an Arrow table, equal to what `/recommend` answers to each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from train.core.ragged import Array
from train.recommender.answers import rank_retrieved, recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.recommender.retrieval import retrieve_for_users
from train.recommender.rules import has_rules

Shape = Literal["rows", "lists"]

# Users whose candidates are in memory at once.
BLOCK = 256


@dataclass(frozen=True)
class Answered:
    """What was recommended to some users.

    Attributes:
        table: a row an item or, in the shape of lists, a row a user.
        counts: `items`; `popular_users`, of whom nothing is known, who got what is popular;
            `short_users`, who got fewer than k.
    """

    table: pa.Table
    counts: Mapping[str, int]


def answered(
    recommender: Recommender, ids: pa.Array, request: Request, shape: Shape = "rows"
) -> Answered:
    """Return the answers to users, each as `/recommend` gives it.

    Args:
        recommender: answers.
        ids: of the users, `[U]`, of the bundle's type.
        request: k, rules and `explain`, alike for all users.
        shape: `rows` has a row for each user and rank, `lists` a row for each user.
    """
    parts = [ids.slice(at, BLOCK) for at in range(0, len(ids), BLOCK)]
    alone = has_rules(request) or request.explain or bool(request.fields)
    made = [(_one_by_one if alone else _at_once)(recommender, part, request) for part in parts]
    counts = np.concatenate([count for count, _, _ in made])
    sources = np.concatenate([source for _, source, _ in made])
    rows = pa.concat_tables([table for _, _, table in made])
    told = {
        "items": int(counts.sum()),
        "popular_users": int((sources == "popular").sum()),
        "short_users": int((counts < request.k).sum()),
    }
    return Answered((_rows if shape == "rows" else _lists)(ids, counts, sources, rows), told)


Part = tuple[Array, Array, pa.Table]
"""How many items each user gets, `[U]`, what they rest on, `[U]`, and the items, a row each."""


def _at_once(recommender: Recommender, ids: pa.Array, request: Request) -> Part:
    """Answer users whose answers are the heads of their rankings, without a step for each."""
    found = retrieve_for_users(recommender, recommender.users.index(ids), request)
    items, scores = rank_retrieved(recommender, [request], found)
    present = items >= 0
    table = pa.table(
        {
            "item_id": recommender.items.ids.take(pa.array(items[present])),
            # Rounded as the answers in JSON are.
            "score": scores[present].astype(np.float64).round(6),
        }
    )
    return present.sum(axis=1), np.array(found.sources), table


def _one_by_one(recommender: Recommender, ids: pa.Array, request: Request) -> Part:
    """Answer users whose answers are put together one at a time, by the service's own code."""
    asked = [replace(request, user_id=own) for own in ids.to_pylist()]
    told = recommend(recommender, asked)
    entries = [entry for answer in told for entry in answer["items"]]
    table = pa.Table.from_pylist([_flat(entry) for entry in entries], _schema(recommender, request))
    counts = np.array([len(answer["items"]) for answer in told])
    return counts, np.array([answer["source"] for answer in told]), table


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = entry.get("fields")
    return {**entry, "fields": None if fields is None else json.dumps(fields, ensure_ascii=False)}


def _schema(recommender: Recommender, request: Request) -> pa.Schema:
    """Return the columns of an item, by what the request asks to be told."""
    item = recommender.items.ids.type
    columns = [("item_id", item), ("score", pa.float64())]
    if request.pin:
        columns.append(("pinned", pa.bool_()))
    if request.fields:
        columns.append(("fields", pa.string()))
    if request.explain:
        columns += [
            ("retrieval_score", pa.float64()),
            ("retrieval_rank", pa.int32()),
            ("ranking_score", pa.float64()),
            ("similar_to", item),
            ("proposed_by", pa.list_(pa.string())),
        ]
    return pa.schema(columns)


def _rows(ids: pa.Array, counts: Array, sources: Array, items: pa.Table) -> pa.Table:
    user = np.repeat(np.arange(len(ids)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    rank = np.arange(len(user)) - first + 1
    columns: Sequence[tuple[str, Any]] = [
        ("user_id", ids.take(pa.array(user))),
        ("rank", pa.array(rank.astype(np.int32))),
        *zip(items.column_names, items.columns, strict=True),
        ("source", pa.array(sources).take(pa.array(user))),
    ]
    return pa.table(dict(columns))


def _lists(ids: pa.Array, counts: Array, sources: Array, items: pa.Table) -> pa.Table:
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    lists = {
        name: pa.ListArray.from_arrays(offsets, column.combine_chunks())
        for name, column in zip(items.column_names, items.columns, strict=True)
    }
    return pa.table({"user_id": ids, **lists, "source": pa.array(sources)})

"""Requests, in external ids and in indices, and the candidates retrieved for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from train.core.ragged import Array, Ragged
from train.index.candidates import Candidates, Queries
from train.recommender.attributes import attributes_of
from train.recommender.recommender import Recommender

Id = int | str
Source = Literal["personal", "history", "attributes", "popular"]


@dataclass(frozen=True)
class Request:
    """A request for one user's recommendations.

    Attributes:
        user_id: of a user in the bundle; anything else is an unknown user.
        history: item ids, oldest first; appended to the stored history of the user.
        k: how many items to return.
        exclude: item ids not to return.
        explain: whether to say where each item comes from.
        filter: over the columns of items, see `filters`; None lets all pass.
        allow: the only item ids to return; None for all.
        seen: whether items of the history are returned; None for what the bundle says.
        boost: a `filter` and a `factor` each, which the odds of the items that pass are multiplied
            by.
        pin: an `item_id` and a `position` each, from 1; it is there whatever the other rules say.
        max_per: the most items with one value of a column, by column.
        diversity: between 0 and 1: how much items are to differ from those before.
        fields: columns of the items to return.
        user: attributes of the user by their columns, for this request: of a new one, or in the
            place of what is stored of a known one.
    """

    user_id: Id | None = None
    history: Sequence[Id] = ()
    k: int = 10
    exclude: Sequence[Id] = ()
    explain: bool = False
    filter: Mapping[str, Any] | None = None
    allow: Sequence[Id] | None = None
    seen: Literal["exclude", "allow"] | None = None
    boost: Sequence[Mapping[str, Any]] = ()
    pin: Sequence[Mapping[str, Any]] = ()
    max_per: Mapping[str, int] = field(default_factory=dict)
    diversity: float = 0.0
    fields: Sequence[str] = ()
    user: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Retrieved:
    """Stage 1's result for a list of requests.

    Attributes:
        queries: the requests in indices, B of them.
        vectors: float32 `[B, d]`.
        candidates: items and scores `[B, C]`, best first.
        sources: what each answer rests on.
        ignored: ids of each request that say nothing to the bundle; see `in_indices`.
    """

    queries: Queries
    vectors: Array
    candidates: Candidates
    sources: list[Source]
    ignored: list[list[Id]]


def in_indices(
    recommender: Recommender, requests: Sequence[Request]
) -> tuple[Queries, Array, list[list[Id]]]:
    """Return the requests in indices, whether each has vectors of its own, and its ignored ids.

    The stored vector of a user is no longer right where an item of a history came with the request,
    or attributes that are not the stored ones and that the towers read, bool `[B]`. Ignored ids are
    those of unknown items, in the history or to be excluded, and a user id that is a string where
    the bundle's are integers, or the other way round. (An id of a new user is no mistake.)
    """
    asked = [request.user_id for request in requests]
    user = recommender.users.index(asked)
    given, unknown = _items(recommender, [request.history for request in requests])
    excluded, also = _items(recommender, [request.exclude for request in requests])
    strange = [_of_another_type(recommender, user_id) for user_id in asked]
    ignored = [
        list(dict.fromkeys((*of_user, *of_history, *of_exclude)))
        for of_user, of_history, of_exclude in zip(strange, unknown, also, strict=True)
    ]
    history = recommender.histories.take(user)
    if len(given.values):
        history = history.join(given)
    asked_seen = [request.seen or recommender.seen for request in requests]
    seen = _excluded(recommender, user, history, np.array([of == "exclude" for of in asked_seen]))
    exclude = seen.join(excluded) if len(excluded.values) else seen
    attributes, described = attributes_of(recommender, user, [of.user for of in requests])
    queries = Queries(user, history, exclude, attributes, described)
    own = given.lengths > 0
    if described is not None and recommender.towers_read_attributes:
        own |= described
    return queries, own, ignored


def _of_another_type(recommender: Recommender, user_id: Id | None) -> list[Id]:
    kind = int if recommender.users.is_integer else str
    return [] if user_id is None or type(user_id) is kind else [user_id]


def of_known_users(
    recommender: Recommender, users: Array, seen: Literal["exclude", "allow"] | None = None
) -> Queries:
    """Return the requests of users `[B]` with their stored histories alone.

    Args:
        recommender: with the histories.
        users: indices, -1 for an unknown user.
        seen: whether items of the history are excluded; None for what serving does. Hidden items
            always are.
    """
    history = recommender.histories.take(users)
    without = np.full(len(users), (seen or recommender.seen) == "exclude")
    exclude = _excluded(recommender, users, history, without)
    return Queries(user=users.astype(np.int32), history=history, exclude=exclude)


def _excluded(recommender: Recommender, users: Array, history: Ragged, unseen: Array) -> Ragged:
    """Return what is hidden from users, and the histories of those who want unseen items, `[B]`."""
    seen = history
    if not unseen.all():
        kept = history.take(np.where(unseen, np.arange(len(history)), -1))
        seen = kept if unseen.any() else Ragged.empty(len(history))
    return seen if recommender.hidden is None else seen.join(recommender.hidden.take(users))


def is_popular(queries: Queries) -> Array:
    """Whether only popularity can answer: nothing is known of the user, bool `[B]`."""
    unknown: Array = (queries.user < 0) & (queries.history.lengths == 0)
    return unknown if queries.described is None else unknown & ~queries.described


def source_of(queries: Queries) -> list[Source]:
    """Return what the answer to each request rests on."""
    lengths = queries.history.lengths
    sources: list[Source] = [
        "personal" if user >= 0 else "history" if length else "attributes"
        for user, length in zip(queries.user, lengths, strict=True)
    ]
    for row in np.flatnonzero(is_popular(queries)):
        sources[row] = "popular"
    return sources


def _items(recommender: Recommender, ids: Sequence[Sequence[Id]]) -> tuple[Ragged, list[list[Id]]]:
    lengths = [len(row) for row in ids]
    if not any(lengths):
        return Ragged.empty(len(ids)), [[] for _ in ids]
    flat = [i for row in ids for i in row]
    index = recommender.items.index(flat)
    rows = np.repeat(np.arange(len(ids)), lengths)
    unknown: list[list[Id]] = [[] for _ in ids]
    for position in np.flatnonzero(index < 0):
        unknown[rows[position]].append(flat[position])
    known = index >= 0
    return Ragged.from_pairs(rows[known], index[known], len(ids)), unknown

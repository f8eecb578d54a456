"""Stage 1: from requests to candidates."""

from collections.abc import Callable, Sequence

import numpy as np

from train.bundle.bundle import Bundle
from train.core.ragged import Array, Ragged
from train.data.statistics import Statistics
from train.index.candidates import Candidates, Queries
from train.recommender.requests import Id, Request, Retrieved, Source

Encode = Callable[[Array, Ragged], Array]
"""Turns user indices int32 `[B]` (-1 unknown) and histories `[B]` into vectors float32 `[B, d]`."""


class Retrieval:
    """Stage 1: from requests to candidates.

    Args:
        bundle: what to retrieve from.
        count: candidates a request, or its `k` where that is larger; by default the bundle's.
        encode: how to turn a history into a vector; by default the bundle's tower, loaded when it
            is first needed.
    """

    def __init__(
        self, bundle: Bundle, count: int | None = None, encode: Encode | None = None
    ) -> None:
        self.bundle = bundle
        self.count = bundle.candidates if count is None else count
        if self.count < 1:
            raise ValueError(f"the number of candidates must be at least 1, got {count}")
        self.encode = encode or bundle.encode_users
        order = bundle.statistics.popular(recent=True)
        self._popular = order[bundle.catalogue[order]]
        self._popularity = _popularity(bundle.statistics)

    def retrieve(self, requests: Sequence[Request]) -> Retrieved:
        """Return the candidates of every request."""
        queries, ignored = self.queries(requests)
        given = [len(r.history) > len(i) for r, i in zip(requests, ignored, strict=True)]
        vectors = self.user_vectors(queries, np.array(given, dtype=bool))
        counts = np.array([max(self.count, request.k) for request in requests])
        candidates = self.candidates(queries, vectors, counts)
        return Retrieved(queries, vectors, candidates, _sources(queries), ignored)

    def queries(self, requests: Sequence[Request]) -> tuple[Queries, list[list[Id]]]:
        """Return the requests in indices, and the ids of each history that are unknown."""
        user = self.bundle.users.index([request.user_id for request in requests])
        given, ignored = self._items([request.history for request in requests])
        excluded, _ = self._items([request.exclude for request in requests])
        history = self.bundle.histories.take(user)
        if len(given.values):
            history = history.join(given)
        exclude = history.join(excluded) if len(excluded.values) else history
        return Queries(user=user, history=history, exclude=exclude), ignored

    def user_vectors(self, queries: Queries, given: Array) -> Array:
        """Return float32 `[B, d]`: stored ones, or encoded where `given` `[B]`, a history came.

        Histories are encoded one by one, because a product over a batch rounds differently from
        one over a row, and a difference in the last bit can flip a split of the reranker's trees.
        """
        vectors = self.bundle.user_vectors[queries.user]
        vectors[(queries.user < 0) & ~given] = 0
        for row in np.flatnonzero(given):
            one = slice(row, row + 1)
            vectors[one] = self.encode(queries.user[one], queries.history.take(np.array([row])))
        return vectors

    def candidates(self, queries: Queries, vectors: Array, counts: Array) -> Candidates:
        """Return the best `counts` `[B]` items of each query, none of them excluded."""
        popular = is_popular(queries)
        rows, width = len(counts), int(counts.max(initial=1))
        if not popular.any() and (counts == width).all():
            return Candidates(*self.bundle.index.search(vectors, width, queries.exclude))
        items = np.full((rows, width), -1, dtype=np.int32)
        scores = np.full((rows, width), -np.inf, dtype=np.float32)
        # One search a distinct count: how an approximate search finds k items depends on k.
        for count in np.unique(counts[~popular]):
            chosen = np.flatnonzero(~popular & (counts == count))
            exclude = queries.exclude.take(chosen)
            found = self.bundle.index.search(vectors[chosen], int(count), exclude)
            items[chosen, :count], scores[chosen, :count] = found
        for row in np.flatnonzero(popular):
            best = self._most_popular(queries.exclude.take(np.array([row])).values, counts[row])
            items[row, : len(best)] = best
            scores[row, : len(best)] = self._popularity[best]
        return Candidates(items=items, scores=scores)

    def _most_popular(self, exclude: Array, count: int) -> Array:
        head = self._popular[: count + len(exclude)]
        return head[~np.isin(head, exclude)][:count]

    def _items(self, ids: Sequence[Sequence[Id]]) -> tuple[Ragged, list[list[Id]]]:
        lengths = [len(row) for row in ids]
        if not any(lengths):
            return Ragged.empty(len(ids)), [[] for _ in ids]
        flat = [i for row in ids for i in row]
        index = self.bundle.items.index(flat)
        rows = np.repeat(np.arange(len(ids)), lengths)
        unknown: list[list[Id]] = [[] for _ in ids]
        for position in np.flatnonzero(index < 0):
            unknown[rows[position]].append(flat[position])
        known = index >= 0
        return Ragged.from_pairs(rows[known], index[known], len(ids)), unknown


def _popularity(statistics: Statistics) -> Array:
    """Return what `popular(recent=True)` orders by: counts of the longest recent window, `[I]`."""
    if not len(statistics.recent_days):
        return statistics.item_count
    counts: Array = statistics.item_recent[int(np.argmax(statistics.recent_days))]
    return counts


def _sources(queries: Queries) -> list[Source]:
    unknown: Source = "history"
    sources: list[Source] = ["personal" if user >= 0 else unknown for user in queries.user]
    for row in np.flatnonzero(is_popular(queries)):
        sources[row] = "popular"
    return sources


def is_popular(queries: Queries) -> Array:
    """Whether nothing is known of the user: neither the id nor an item of the history, `[B]`."""
    unknown: Array = (queries.user < 0) & (queries.history.lengths == 0)
    return unknown

"""The two stages as plain classes, used by evaluation, the command line and serving alike.

Requests come in lists and every step works on the whole list; the answer to a request does not
depend on the others in its list.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from train.bundle import Bundle
from train.candidates import Candidates, Catalogue, Queries, pairs
from train.ragged import Array, Ragged
from train.statistics import Statistics
from train.top_k import top_k

Id = int | str
Source = Literal["personal", "history", "popular"]
Encode = Callable[[Array, Ragged], Array]
"""Turns user indices int32 `[B]` (-1 unknown) and histories `[B]` into vectors float32 `[B, d]`."""


@dataclass(frozen=True)
class Request:
    """What is asked for one user.

    Attributes:
        user_id: of a user in the bundle; anything else is an unknown user.
        history: item ids, oldest first; appended to what the bundle knows of the user.
        k: how many items to return.
        exclude: item ids not to return; what the user has seen is never returned.
        explain: whether to say where each item comes from.
    """

    user_id: Id | None = None
    history: Sequence[Id] = ()
    k: int = 10
    exclude: Sequence[Id] = ()
    explain: bool = False


@dataclass(frozen=True)
class Retrieved:
    """Stage 1's result for a list of requests.

    Attributes:
        queries: the requests in indices, B of them.
        vectors: float32 `[B, d]`.
        candidates: items and scores `[B, C]`, best first.
        sources: what each answer rests on.
        ignored: ids of each request's history that the bundle does not know.
    """

    queries: Queries
    vectors: Array
    candidates: Candidates
    sources: list[Source]
    ignored: list[list[Id]]


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
        popular = _is_popular(queries)
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


class Ranking:
    """Stage 2: from candidates to the order of the answer.

    Keeps stage 1's order where the bundle's reranker did not earn its place, and for queries of
    which nothing is known.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._catalogue = Catalogue(
            item_vectors=bundle.directions,
            item_features=bundle.item_features,
            user_features=bundle.user_features,
            statistics=bundle.statistics,
        )

    def rank(
        self, queries: Queries, vectors: Array, candidates: Candidates, k: int
    ) -> tuple[Array, Array]:
        """Return the best `k` items of each query and their scores.

        Args:
            queries: B of them.
            vectors: float32 `[B, d]`.
            candidates: items and scores `[B, C]`.
            k: how many.

        Returns:
            items int32 `[B, min(k, C)]`, -1 padded, and scores float32, -inf padded.
        """
        scores = candidates.scores
        reranked = np.flatnonzero(~_is_popular(queries))
        if self.bundle.reranks and len(reranked) == len(scores):
            scores = self._scores(queries, vectors, candidates)
        elif self.bundle.reranks and len(reranked):
            scores = scores.copy()
            scores[reranked] = self._scores(
                _take(queries, reranked), vectors[reranked], _rows(candidates, reranked)
            )
        best, scores = top_k(scores, k)
        items = np.take_along_axis(candidates.items, best, axis=1)
        return np.where(np.isfinite(scores), items, -1).astype(np.int32), scores

    def _scores(self, queries: Queries, vectors: Array, candidates: Candidates) -> Array:
        """Return the reranker's scores, float32 `[B, C]`, -inf where there is no candidate."""
        present = candidates.items >= 0
        scores = np.full(present.shape, -np.inf, dtype=np.float32)
        assert self.bundle.reranker is not None
        scores[present] = self.bundle.reranker.score(
            pairs(self._catalogue, queries, vectors, candidates)
        )
        return scores


def recommend(
    bundle: Bundle, requests: Iterable[Request], count: int | None = None
) -> list[dict[str, Any]]:
    """Return the answer to every request, the same that serving gives.

    Returns:
        A dict a request: `items` (each `item_id`, `score` and, where known, `title`), `source`,
        `bundle` and, where there are any, `ignored`.
    """
    asked = list(requests)
    if not asked:
        return []
    found = Retrieval(bundle, count).retrieve(asked)
    items, scores = Ranking(bundle).rank(
        found.queries, found.vectors, found.candidates, max(request.k for request in asked)
    )
    return answers(bundle, asked, found, items, scores)


def answers(
    bundle: Bundle, requests: Sequence[Request], found: Retrieved, items: Array, scores: Array
) -> list[dict[str, Any]]:
    """Return the ranked items `[B, k]` and scores `[B, k]` as answers in external ids."""
    lists = _entries(bundle, items, scores)
    result: list[dict[str, Any]] = []
    for row, request in enumerate(requests):
        entries = lists[row][: request.k]
        if request.explain:
            entries = _explained(bundle, found, row, items[row], entries)
        answer: dict[str, Any] = {
            "items": entries,
            "source": found.sources[row],
            "bundle": bundle.version,
        }
        if found.ignored[row]:
            answer["ignored"] = found.ignored[row]
        result.append(answer)
    return result


def _entries(bundle: Bundle, items: Array, scores: Array) -> list[list[dict[str, Any]]]:
    ids, titles = bundle.item_names
    rounded = scores.astype(np.float64).round(6).tolist()
    return [
        [_entry(ids[i], score, titles[i]) for i, score in zip(*row, strict=True) if i >= 0]
        for row in zip(items.tolist(), rounded, strict=True)
    ]


def _entry(item: Id, score: float, title: str | None) -> dict[str, Any]:
    entry = {"item_id": item, "score": score}
    return entry if title is None else {**entry, "title": title}


def _explained(
    bundle: Bundle, found: Retrieved, row: int, items: Array, entries: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Add stage 1's score and rank, stage 2's score and the nearest item of the history."""
    candidates = found.candidates.items[row]
    scores = found.candidates.scores[row].astype(np.float64).round(6)
    rank = {int(item): position for position, item in enumerate(candidates)}
    reranked = bundle.reranks and found.sources[row] != "popular"
    nearest = _nearest(bundle, found.queries.history, row, items)
    return [
        entry
        | {
            "retrieval_score": float(scores[rank[int(item)]]),
            "retrieval_rank": rank[int(item)] + 1,
            "ranking_score": entry["score"] if reranked else None,
            "similar_to": similar,
        }
        for entry, item, similar in zip(entries, items, nearest, strict=False)
    ]


def _nearest(bundle: Bundle, history: Ragged, row: int, items: Array) -> list[Id | None]:
    """Return the id of the history's item with the largest cosine to each of `items` `[k]`."""
    seen = history.take(np.array([row])).values
    if not len(seen):
        return [None] * len(items)
    vectors = bundle.directions[seen]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Not a product of matrices, which rounds by place: of equal vectors the first one is nearest.
    units = vectors / np.maximum(lengths, 1e-12)
    cosines = np.einsum("kd,hd->kh", bundle.directions[items], units)
    return bundle.items.external(seen[cosines.argmax(axis=1)])


def _popularity(statistics: Statistics) -> Array:
    """Return what `popular(recent=True)` orders by: counts of the longest recent window, `[I]`."""
    if not len(statistics.recent_days):
        return statistics.item_count
    counts: Array = statistics.item_recent[int(np.argmax(statistics.recent_days))]
    return counts


def _sources(queries: Queries) -> list[Source]:
    unknown: Source = "history"
    sources: list[Source] = ["personal" if user >= 0 else unknown for user in queries.user]
    for row in np.flatnonzero(_is_popular(queries)):
        sources[row] = "popular"
    return sources


def _is_popular(queries: Queries) -> Array:
    """Whether nothing is known of the user: neither the id nor an item of the history, `[B]`."""
    unknown: Array = (queries.user < 0) & (queries.history.lengths == 0)
    return unknown


def _take(queries: Queries, rows: Array) -> Queries:
    return Queries(
        user=queries.user[rows],
        history=queries.history.take(rows),
        exclude=queries.exclude.take(rows),
    )


def _rows(candidates: Candidates, rows: Array) -> Candidates:
    return Candidates(items=candidates.items[rows], scores=candidates.scores[rows])

"""Stage 1: from requests to candidates, offline and served alike.

Every step works on a whole list of requests; the candidates of one do not depend on the others.
"""

from collections.abc import Sequence

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates, Queries
from train.recommender.recommender import Recommender
from train.recommender.requests import Request, Retrieved, Source, in_indices, is_popular


def retrieve(recommender: Recommender, requests: Sequence[Request]) -> Retrieved:
    """Return the candidates of every request: as many as the reranker orders, or `k` if larger."""
    queries, ignored = in_indices(recommender, requests)
    given = [len(r.history) > len(i) for r, i in zip(requests, ignored, strict=True)]
    vectors = vectors_of(recommender, queries, np.array(given, dtype=bool))
    counts = np.array([max(recommender.candidates, request.k) for request in requests])
    candidates = find_candidates(recommender, queries, vectors, counts)
    return Retrieved(queries, vectors, candidates, _sources(queries), ignored)


def vectors_of(recommender: Recommender, queries: Queries, given: Array) -> Array:
    """Return float32 `[B, d]`: stored vectors, or encoded where `given` `[B]`, a history came.

    Histories are encoded one by one, because a product over a batch rounds differently from one
    over a row, and a difference in the last bit can flip a split of the reranker's trees.
    """
    vectors = recommender.user_vectors[queries.user]
    vectors[(queries.user < 0) & ~given] = 0
    for row in np.flatnonzero(given):
        one, history = slice(row, row + 1), queries.history.take(np.array([row]))
        vectors[one] = recommender.encode_users(queries.user[one], history)
    return vectors


def find_candidates(
    recommender: Recommender, queries: Queries, vectors: Array, counts: Array
) -> Candidates:
    """Return the best `counts` `[B]` items of each request, none of them excluded."""
    popular = is_popular(queries)
    rows, width = len(counts), int(counts.max(initial=1))
    if not popular.any() and (counts == width).all():
        return Candidates(*recommender.index.search(vectors, width, queries.exclude))
    items = np.full((rows, width), -1, dtype=np.int32)
    scores = np.full((rows, width), -np.inf, dtype=np.float32)
    # One search a distinct count: how an approximate search finds k items depends on k.
    for count in np.unique(counts[~popular]):
        chosen = np.flatnonzero(~popular & (counts == count))
        exclude = queries.exclude.take(chosen)
        found = recommender.index.search(vectors[chosen], int(count), exclude)
        items[chosen, :count], scores[chosen, :count] = found
    for row in np.flatnonzero(popular):
        exclude = queries.exclude.take(np.array([row]))
        best = _most_popular(recommender, exclude.values, counts[row])
        items[row, : len(best)] = best
        scores[row, : len(best)] = recommender.popularity[best]
    return Candidates(items=items, scores=scores)


def _most_popular(recommender: Recommender, exclude: Array, count: int) -> Array:
    head = recommender.popular[: count + len(exclude)]
    return head[~np.isin(head, exclude)][:count]


def _sources(queries: Queries) -> list[Source]:
    unknown: Source = "history"
    sources: list[Source] = ["personal" if user >= 0 else unknown for user in queries.user]
    for row in np.flatnonzero(is_popular(queries)):
        sources[row] = "popular"
    return sources

"""Stage 1: from requests to candidates, offline and served alike.

Every step works on a whole list of requests; the candidates of one do not depend on the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries
from train.recommender.recommender import TOWER, Recommender
from train.recommender.requests import (
    Request,
    Retrieved,
    in_indices,
    is_popular,
    of_known_users,
    source_of,
)
from train.recommender.restrict import groups, restricted
from train.sources.merge import filled, fused
from train.sources.vectors import distinct_items

# Items of histories whose vectors are in memory at once, where only these are candidates.
CELLS = 2**18


def retrieve(recommender: Recommender, requests: Sequence[Request]) -> Retrieved:
    """Return the candidates of every request: as many as the reranker orders, or `k` if larger."""
    queries, given, ignored = in_indices(recommender, requests)
    vectors = vectors_of(recommender, queries, given)
    counts = np.array([max(recommender.candidates, request.k) for request in requests])
    candidates = _within_restrictions(recommender, requests, queries, vectors, counts)
    return Retrieved(queries, vectors, candidates, source_of(queries), ignored)


def retrieve_for_users(recommender: Recommender, users: Array, request: Request) -> Retrieved:
    """Return what `retrieve` does for requests that differ in their user alone.

    Args:
        recommender: proposes.
        users: indices, -1 for an unknown user, int32 `[B]`.
        request: k, filter, allow and seen of each of them; without a history of its own.
    """
    queries = of_known_users(recommender, users, request.seen)
    vectors = vectors_of(recommender, queries, np.zeros(len(users), dtype=bool))
    counts = np.full(len(users), max(recommender.candidates, request.k))
    candidates = find_candidates(restricted(recommender, request), queries, vectors, counts)
    return Retrieved(queries, vectors, candidates, source_of(queries), [[] for _ in users])


def _within_restrictions(
    recommender: Recommender,
    requests: Sequence[Request],
    queries: Queries,
    vectors: Array,
    counts: Array,
) -> Candidates:
    """Return the candidates of every request, each of what it allows."""
    parts = groups(requests)
    if list(parts) == [""]:
        return find_candidates(recommender, queries, vectors, counts)
    found = _empty(recommender, len(requests), int(counts.max(initial=1)))
    for rows in parts.values():
        some = restricted(recommender, requests[rows[0]])
        asked = queries.take(rows), vectors[rows], counts[rows]
        _place(found, rows, find_candidates(some, *asked))
    return found


def _empty(recommender: Recommender, rows: int, width: int) -> Candidates:
    several = len(recommender.proposing) > 1
    return Candidates(
        np.full((rows, width), -1, dtype=np.int32),
        np.full((rows, width), -np.inf, dtype=np.float32),
        np.zeros((rows, width), dtype=np.uint16) if several else None,
    )


def _place(found: Candidates, rows: Array, part: Candidates) -> None:
    """Write the candidates of some rows into those of all."""
    width = part.items.shape[1]
    found.items[rows, :width], found.scores[rows, :width] = part.items, part.scores
    if found.proposed is not None:
        found.proposed[rows, :width] = part.proposed


def vectors_of(recommender: Recommender, queries: Queries, given: Array) -> Array:
    """Return float32 `[B, d]`: stored vectors, or encoded where `given` `[B]`; see `in_indices`.

    Users are encoded one by one, because a product over a batch rounds differently from one
    over a row, and a difference in the last bit can flip a split of the reranker's trees.
    """
    vectors = recommender.user_vectors[queries.user]
    vectors[(queries.user < 0) & ~given] = 0
    for row in np.flatnonzero(given):
        asked = queries.take(np.array([row]))
        vectors[row] = recommender.encode_users(asked.user, asked.history, asked.attributes)[0]
    return vectors


def find_candidates(
    recommender: Recommender, queries: Queries, vectors: Array, counts: Array
) -> Candidates:
    """Return the best `counts` `[B]` items of each request, none of them excluded.

    There are fewer only where the catalogue has no more, or the history where only its items are
    recommended: the most popular items fill up what the sources leave.
    """
    popular = is_popular(queries)
    rows, width = len(counts), int(counts.max(initial=1))
    if not popular.any() and (counts == width).all():
        return _found(recommender, queries, vectors, width)
    found = _empty(recommender, rows, width)
    # One search a distinct count: how an approximate search finds k items depends on k.
    for count in np.unique(counts[~popular]):
        chosen = np.flatnonzero(~popular & (counts == count))
        asked = queries.take(chosen), vectors[chosen], int(count)
        _place(found, chosen, _found(recommender, *asked))
    for row in np.flatnonzero(popular) if recommender.seen != "only" else ():
        exclude = queries.exclude.take(np.array([row]))
        best = _most_popular(recommender, exclude.values, counts[row])
        found.items[row, : len(best)] = best
        found.scores[row, : len(best)] = recommender.popularity[best]
    return found


def proposals(
    recommender: Recommender, queries: Queries, vectors: Array, count: int
) -> dict[str, Candidates]:
    """Return the best items of each source, `count` and no less than its quota."""
    several = len(recommender.proposing) > 1
    depth = {
        name: max(count, recommender.limits[name]) if several else count
        for name in recommender.proposing
    }
    return {name: _proposed(recommender, name, queries, vectors, depth[name]) for name in depth}


def scores_by_source(
    recommender: Recommender, queries: Queries, vectors: Array, items: Array
) -> Array:
    """Return the score of each source for candidates `[B, C]`, float32 `[S, B, C]`."""
    out = np.empty((len(recommender.quotas), *items.shape), dtype=np.float32)
    for scores, name in zip(out, recommender.quotas, strict=True):
        scores[:] = score_of_source(recommender, name, queries, vectors, items)
    return out


def merged(
    recommender: Recommender,
    queries: Queries,
    vectors: Array,
    found: Mapping[str, Candidates],
    count: int,
) -> Candidates:
    """Return `count` candidates from what sources propose, filled up by what is popular."""
    lists = list(found.values())
    if len(lists) == 1:
        return _filled(recommender, queries, vectors, lists[0])
    quotas = [recommender.limits[name] for name in found]
    every = fused([part.items for part in lists], count, quotas)
    return _filled(recommender, queries, vectors, every)


def _found(recommender: Recommender, queries: Queries, vectors: Array, count: int) -> Candidates:
    found = proposals(recommender, queries, vectors, count)
    return merged(recommender, queries, vectors, found, count)


def _filled(
    recommender: Recommender, queries: Queries, vectors: Array, found: Candidates
) -> Candidates:
    """Return candidates with the most popular items after the last, where sources lack some."""
    if recommender.seen == "only" or (found.items[:, -1:] >= 0).all():
        return found
    row, column = np.nonzero(found.items >= 0)
    own = Ragged.from_pairs(row, found.items[row, column], len(found.items))
    rest = replace(queries, exclude=queries.exclude.join(own))
    more = recommender.fallback.candidates(rest, found.items.shape[1])
    # The fusion of what nobody proposes is 0; a source alone has a score for every item.
    scores = np.zeros_like(more.scores)
    if found.proposed is None:
        [name] = recommender.proposing
        scores = score_of_source(recommender, name, queries, vectors, more.items)
    return filled(found, replace(more, scores=np.where(more.items < 0, -np.inf, scores)))


def _proposed(
    recommender: Recommender, name: str, queries: Queries, vectors: Array, count: int
) -> Candidates:
    if recommender.seen == "only":
        return _of_histories(recommender, name, queries, vectors, count)
    if name == TOWER:
        found = Candidates(*recommender.index.search(vectors, count, queries.exclude))
    else:
        found = recommender.sources[name].candidates(queries, count)
    bare = queries.bare[:, None]
    if recommender.source_reads_attributes(name) or not bare.any():
        return found
    # Of a user of whom it knows nothing, it would propose what comes first.
    items = np.where(bare, np.int32(-1), found.items)
    return replace(found, items=items, scores=np.where(bare, np.float32(-np.inf), found.scores))


def _of_histories(
    recommender: Recommender, name: str, queries: Queries, vectors: Array, count: int
) -> Candidates:
    """Return the best `count` items of each history by the scores of a source."""
    items = _history_items(recommender, queries)
    found = np.full((len(items), count), -1, dtype=np.int32)
    scores = np.full(found.shape, -np.inf, dtype=np.float32)
    step = max(1, CELLS // max(items.shape[1], 1))
    for start in range(0, len(items), step):
        rows = np.arange(start, min(start + step, len(items)))
        part = items[rows]
        every = score_of_source(recommender, name, queries.take(rows), vectors[rows], part)
        best, values = top_k(np.where(part < 0, -np.inf, every).astype(np.float32), count)
        present = np.isfinite(values)
        width = best.shape[1]
        found[rows, :width] = np.where(present, np.take_along_axis(part, best, axis=1), -1)
        scores[rows, :width] = values
    return Candidates(found, scores)


def _history_items(recommender: Recommender, queries: Queries) -> Array:
    """Return the distinct items of each history that may be recommended, ascending, `[B, W]`."""
    size, exclude = len(recommender.items), queries.exclude
    distinct = distinct_items(queries.history, size)
    key = distinct.rows * size + distinct.values
    kept = recommender.catalogue[distinct.values]
    kept &= ~np.isin(key, exclude.rows * size + exclude.values)
    left = Ragged.from_pairs(distinct.rows[kept], distinct.values[kept], len(distinct))
    width = int(left.lengths.max(initial=0))
    items = np.full((len(left), width), -1, dtype=np.int32)
    items[left.rows, np.arange(len(left.values)) - left.offsets[:-1][left.rows]] = left.values
    return items


def score_of_source(
    recommender: Recommender, name: str, queries: Queries, vectors: Array, items: Array
) -> Array:
    """Return the scores of a source for items `[B, C]`, float32 `[B, C]`."""
    if name == TOWER:
        return _tower_scores(recommender, vectors, items)
    return recommender.sources[name].score(queries, items)


def _tower_scores(recommender: Recommender, vectors: Array, items: Array) -> Array:
    rows, width = items.shape
    of_users = np.repeat(np.arange(rows), width)
    of_items = recommender.item_vectors[items.ravel()]
    return recommender.index.pair_scores(vectors[of_users], of_items).reshape(rows, width)


def _most_popular(recommender: Recommender, exclude: Array, count: int) -> Array:
    head = recommender.popular[: count + len(exclude)]
    return head[~np.isin(head, exclude)][:count]

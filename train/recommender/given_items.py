"""Answers about given items: ranked for somebody, and what is like them.

Shapes: I items, n given ones.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.index.candidates import Candidates, Queries
from train.recommender.answers import entries_of
from train.recommender.filters import RuleError
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import Id, Request, in_indices, is_popular, source_of
from train.recommender.restrict import restricted
from train.recommender.retrieval import score_of_source, vectors_of
from train.sources.merge import fused


def rank_items(recommender: Recommender, request: Request, items: Sequence[Id]) -> dict[str, Any]:
    """Return given items in the order in which they would be recommended.

    Args:
        recommender: both stages.
        request: who asks; nothing is excluded.
        items: ids; those that are unknown are named in `ignored`, and each counts once.
    """
    queries, given, ignored = in_indices(recommender, [request])
    index = recommender.items.index(items)
    known = np.array(list(dict.fromkeys(index[index >= 0].tolist())), dtype=np.int32)
    unknown = [item for item, at in zip(items, index.tolist(), strict=True) if at < 0]
    queries = replace(queries, exclude=Ragged.empty(1))
    entries: list[dict[str, Any]] = []
    if len(known):
        vectors = vectors_of(recommender, queries, given)
        candidates = _candidates(recommender, queries, vectors, known)
        ranked, scores = rank_candidates(recommender, queries, vectors, candidates, len(known))
        entries = entries_of(recommender, ranked[0], scores[0])
    answer = {"items": entries, "source": source_of(queries)[0], "bundle": recommender.version}
    named = list(dict.fromkeys((*ignored[0], *unknown)))
    return answer | ({"ignored": named} if named else {})


def _candidates(
    recommender: Recommender, queries: Queries, vectors: Array, items: Array
) -> Candidates:
    """Return given items as stage 1 would order them, were there no others."""
    if is_popular(queries)[0]:
        scores = recommender.popularity[items].astype(np.float32)
        order = np.lexsort((items, -scores))
        return Candidates(items[order][None], scores[order][None], _none(recommender, len(items)))
    lists, of_lists = [], []
    for name in recommender.proposing:
        scores = score_of_source(recommender, name, queries, vectors, items[None])[0]
        order = np.lexsort((items, -scores))
        lists.append(items[order][None])
        of_lists.append(scores[order][None])
    if len(lists) == 1:
        return Candidates(lists[0], of_lists[0].astype(np.float32))
    return fused(lists, len(items), [len(items)] * len(lists))


def _none(recommender: Recommender, count: int) -> Array | None:
    several = len(recommender.proposing) > 1
    return np.zeros((1, count), dtype=np.uint16) if several else None


def similar_items(
    recommender: Recommender, items: Sequence[Id], not_items: Sequence[Id], request: Request
) -> dict[str, Any]:
    """Return the items whose vectors have the greatest cosine to what given items have in common.

    Args:
        recommender: with the vectors.
        items: ids of the seeds, of which one at least is known.
        not_items: ids of items that the answer is to be unlike.
        request: `k`, `filter`, `allow`, `exclude` and `fields`; the seeds are excluded.

    Raises:
        RuleError: no seed is known, or the filter is none that the bundle can follow.
    """
    ids = [*items, *not_items, *request.exclude]
    index = recommender.items.index(ids)
    seeds, rest = index[: len(items)], index[len(items) : len(items) + len(not_items)]
    if not (seeds >= 0).any():
        raise RuleError(("items",), "expected an item of the bundle at least", list(items)[:5])
    wanted = _mean(recommender, seeds) - _mean(recommender, rest)
    cosines = (recommender.directions @ wanted) / np.maximum(recommender.lengths, 1e-12)
    open_ = restricted(recommender, request).catalogue.copy()
    open_[index[index >= 0]] = False
    best, scores = top_k(np.where(open_, cosines, -np.inf)[None].astype(np.float32), request.k)
    found = best[0][np.isfinite(scores[0])]
    answer = {
        "items": entries_of(recommender, found, scores[0], request.fields),
        "bundle": recommender.version,
    }
    ignored = [item for item, at in zip(ids, index.tolist(), strict=True) if at < 0]
    return answer | ({"ignored": list(dict.fromkeys(ignored))} if ignored else {})


def _mean(recommender: Recommender, items: Array) -> Array:
    """Return the mean of the unit vectors of items, -1 for none, `[w]`."""
    known = items[items >= 0]
    if not len(known):
        return np.zeros(recommender.directions.shape[1], dtype=np.float32)
    lengths = np.maximum(recommender.lengths[known], 1e-12)
    mean: Array = (recommender.directions[known] / lengths[:, None]).mean(axis=0)
    return mean

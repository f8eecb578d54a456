"""The trace of a request: what each step of its answer made of the one before.

It is the answer's own code, run once more with its steps apart, so that a trace says why an item is
there, or why it is not.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.index.candidates import Candidates
from train.recommender.answers import answers, named_items
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import Request, Retrieved, in_indices, is_popular, source_of
from train.recommender.restrict import allowed, restricted
from train.recommender.retrieval import (
    find_candidates,
    merged,
    proposals,
    scores_by_source,
    vectors_of,
)

# Of each list, so many items are told.
FIRST = 20


def trace(recommender: Recommender, request: Request) -> dict[str, Any]:
    """Return how a request is answered.

    Returns:
        `asks`: whether the user is known, how long the history is, how many items are excluded,
        which attributes came;
        `allowed`: items of the catalogue, those that the filter lets pass, those that `allow`
        lists, and those that are left; `sources`: by name, how many items each proposes, and the
        first; `candidates`: how many, and the first, each with its rank and score in both stages,
        the score of each source, and whether it is in the answer; `milliseconds` of each step.

    Raises:
        RuleError: its rules are none that the bundle can follow.
    """
    laps: dict[str, float] = {}
    queries, given, ignored = in_indices(recommender, [request])
    some = restricted(recommender, request)
    with _timed(laps, "encode"):
        vectors = vectors_of(recommender, queries, given)
    count = max(recommender.candidates, request.k)
    with _timed(laps, "sources"):
        popular = bool(is_popular(queries)[0])
        lists = {} if popular else proposals(some, queries, vectors, count)
    with _timed(laps, "merge"):
        # Without any proposals, what is popular is all that there is.
        found = (
            merged(some, queries, vectors, lists, count)
            if lists
            else find_candidates(some, queries, vectors, np.array([count]))
        )
    with _timed(laps, "rank"):
        ranked = rank_candidates(recommender, queries, vectors, found, found.items.shape[1])
    with _timed(laps, "answer"):
        whole = Retrieved(queries, vectors, found, source_of(queries), ignored)
        [answer] = answers(recommender, [request], whole, *ranked)
    history = int(queries.history.lengths[0])
    excluded = int(queries.exclude.lengths[0])
    known = bool(queries.user[0] >= 0)
    asks: dict[str, Any] = {"known_user": known, "history": history, "excluded": excluded}
    asks |= {"attributes": sorted(request.user)} if request.user else {}
    return {
        "asks": asks,
        "allowed": _allowed(recommender, request),
        "sources": _sources(recommender, lists),
        "candidates": _candidates(recommender, whole, found, ranked, answer),
        "milliseconds": {step: round(1000 * took, 3) for step, took in laps.items()},
    }


@contextmanager
def _timed(laps: dict[str, float], step: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    laps[step] = time.perf_counter() - begun


def _allowed(recommender: Recommender, request: Request) -> dict[str, int]:
    of = {"catalogue": int(recommender.catalogue.sum())}
    if request.filter is not None:
        of["filter"] = int(allowed(recommender, request.filter, None).sum())
    if request.allow is not None:
        of["allow"] = int(allowed(recommender, None, request.allow).sum())
    return of | {"left": int(restricted(recommender, request).catalogue.sum())}


def _sources(recommender: Recommender, lists: Mapping[str, Candidates]) -> list[dict[str, Any]]:
    told = []
    for name, found in lists.items():
        quota = recommender.limits[name]
        items = found.items[0][: quota if len(lists) > 1 else None]
        items, scores = items[items >= 0], found.scores[0][: len(items)]
        first = _named(recommender, items[:FIRST], scores[:FIRST])
        told.append({"name": name, "proposes": len(items), "first": first})
    return told


def _candidates(
    recommender: Recommender,
    whole: Retrieved,
    found: Candidates,
    ranked: tuple[Array, Array],
    answer: Mapping[str, Any],
) -> dict[str, Any]:
    place = {item: at for at, item in enumerate(found.items[0].tolist())}
    items, scores = (part[0] for part in ranked)
    items, scores = items[items >= 0][:FIRST], scores[: len(items[items >= 0])][:FIRST]
    known = not is_popular(whole.queries)[0]
    names = list(recommender.quotas) if known and len(recommender.quotas) > 1 else []
    asked = whole.queries, whole.vectors, items[None]
    opinions: Array = scores_by_source(recommender, *asked) if names else np.empty((0, 1, 0))
    answered = {entry["item_id"]: at for at, entry in enumerate(answer["items"], start=1)}
    first = _named(recommender, items, scores)
    for at, (entry, item) in enumerate(zip(first, items.tolist(), strict=True)):
        entry["retrieval_rank"] = place[item] + 1
        entry["retrieval_score"] = _rounded(found.scores[0][place[item]])
        entry["answered_at"] = answered.get(entry["item_id"])
        if names:
            by = {name: _rounded(opinions[of][0, at]) for of, name in enumerate(names)}
            entry["by_source"] = by
    return {
        "number": int((found.items[0] >= 0).sum()),
        "stage_2": recommender.reranks,
        "first": first,
    }


def _named(recommender: Recommender, items: Array, scores: Array) -> list[dict[str, Any]]:
    names = named_items(recommender, items)
    return [of | {"score": _rounded(score)} for of, score in zip(names, scores, strict=True)]


def _rounded(score: Any) -> float:
    return round(float(score), 6)

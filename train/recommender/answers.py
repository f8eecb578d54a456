"""Answers in external ids, with scores and explanations."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import Id, Request, Retrieved, in_indices
from train.recommender.restrict import key_of, restricted
from train.recommender.retrieval import retrieve
from train.recommender.rules import Chosen, choose, fields_of, has_rules


def recommend(recommender: Recommender, requests: Iterable[Request]) -> list[dict[str, Any]]:
    """Return the answer to every request, the same that serving gives.

    Returns:
        A dict a request: `items` (each `item_id`, `score` and, where known, `title`), `source`,
        `bundle`, where there are any, `ignored`, and `short`, the reason for fewer than k.
    """
    asked = list(requests)
    if not asked:
        return []
    found = retrieve(recommender, asked)
    return answers(recommender, asked, found, *rank_retrieved(recommender, asked, found))


def newest_of_history(
    recommender: Recommender, request: Request, count: int = 10
) -> list[dict[str, Any]]:
    """Return the newest items of a request's history, known and given, the newest first."""
    queries, _, _ = in_indices(recommender, [request])
    return named_items(recommender, queries.history.values[::-1][:count])


def named_items(recommender: Recommender, items: Array) -> list[dict[str, Any]]:
    """Return items `[n]` by their `item_id` and, where it is known, their `title`."""
    return [
        {"item_id": own} | ({} if title is None else {"title": title})
        for own, title in zip(*recommender.named(items), strict=True)
    ]


def rank_retrieved(
    recommender: Recommender, requests: Sequence[Request], found: Retrieved
) -> tuple[Array, Array]:
    """Return the ranked items `[B, n]` and scores `[B, n]`, as many as `ranked_count` says."""
    most = ranked_count(requests, found)
    return rank_candidates(recommender, found.queries, found.vectors, found.candidates, most)


def ranked_count(requests: Sequence[Request], found: Retrieved) -> int:
    """Return how much of the rankings is needed: the largest k, or all where rules choose."""
    if any(has_rules(request) for request in requests):
        return int(found.candidates.items.shape[1])
    return max(request.k for request in requests)


def answers(
    recommender: Recommender,
    requests: Sequence[Request],
    found: Retrieved,
    items: Array,
    scores: Array,
) -> list[dict[str, Any]]:
    """Return the ranked items `[B, n]` and scores `[B, n]` as answers in external ids."""
    entries = _plain_entries(recommender, requests, items, scores)
    return [
        _answer(recommender, request, found, row, items[row], scores[row], entries[row])
        for row, request in enumerate(requests)
    ]


def _plain_entries(
    recommender: Recommender, requests: Sequence[Request], items: Array, scores: Array
) -> list[list[dict[str, Any]]]:
    """Return the entries of requests without rules, whose items are looked up all at once."""
    heads = [
        items[row, : 0 if has_rules(request) else request.k] for row, request in enumerate(requests)
    ]
    heads = [head[head >= 0] for head in heads]
    ids, titles = recommender.named(np.concatenate(heads))
    found, at = [], 0
    for row, (request, head) in enumerate(zip(requests, heads, strict=True)):
        own = slice(at, at + len(head))
        names = ids[own], titles[own]
        found.append(_entries(recommender, head, scores[row], names, request.fields))
        at += len(head)
    return found


def _answer(
    recommender: Recommender,
    request: Request,
    found: Retrieved,
    row: int,
    items: Array,
    scores: Array,
    entries: list[dict[str, Any]],
) -> dict[str, Any]:
    ignored = list(found.ignored[row])
    if has_rules(request):
        found, row, chosen = _chosen(recommender, request, found, row, items, scores)
        entries = entries_of(recommender, chosen.items, chosen.scores, request.fields)
        for entry, pinned in zip(entries, chosen.pinned.tolist(), strict=True):
            if pinned:
                entry["pinned"] = True
        items = chosen.items
        ignored += chosen.ignored
    else:
        items = items[: request.k]
        items = items[items >= 0]
    if request.explain:
        entries = _explained(recommender, found, row, items, entries)
    answer: dict[str, Any] = {
        "items": entries,
        "source": found.sources[row],
        "bundle": recommender.version,
    }
    if ignored:
        answer["ignored"] = ignored
    if len(entries) < request.k:
        rules = " and the rules" if has_rules(request) or key_of(request) else ""
        left = f"{len(entries)} of {request.k}: nothing else is left by exclusions{rules}"
        answer["short"] = left
    return answer


def _chosen(
    recommender: Recommender,
    request: Request,
    found: Retrieved,
    row: int,
    items: Array,
    scores: Array,
) -> tuple[Retrieved, int, Chosen]:
    """Return what rules choose, of more candidates while those that there are do not suffice.

    With it, the candidates that it was chosen from, and their row.
    """
    asked = max(recommender.candidates, request.k)
    every = int(restricted(recommender, request).catalogue.sum())
    while True:
        exclude = found.queries.exclude.take(np.array([row])).values
        chosen = choose(recommender, request, items, scores, exclude)
        count = int((found.candidates.items[row] >= 0).sum())
        if len(chosen.items) >= request.k or count < min(asked, every) or count >= every:
            return found, row, chosen
        asked = min(4 * asked, every)
        found, row = retrieve(recommender, [replace(request, k=asked)]), 0
        ranked = rank_retrieved(recommender, [request], found)
        items, scores = ranked[0][0], ranked[1][0]


def entries_of(
    recommender: Recommender, items: Array, scores: Array, fields: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return items `[n]` and their scores as entries of an answer, with some of their columns."""
    return _entries(recommender, items, scores, recommender.named(items), fields)


def _entries(
    recommender: Recommender,
    items: Array,
    scores: Array,
    names: tuple[list[Id], list[str | None]],
    fields: Sequence[str],
) -> list[dict[str, Any]]:
    rounded = scores[: len(items)].astype(np.float64).round(6).tolist()
    entries = [_entry(*of) for of in zip(names[0], rounded, names[1], strict=True)]
    if not fields:
        return entries
    columns = fields_of(recommender, fields, items)
    return [entry | {"fields": of} for entry, of in zip(entries, columns, strict=True)]


def _entry(item: Id, score: float, title: str | None) -> dict[str, Any]:
    # What was pinned and is no candidate has no score.
    entry = {"item_id": item, "score": score if score == score else None}
    return entry if title is None else {**entry, "title": title}


def _explained(
    recommender: Recommender,
    found: Retrieved,
    row: int,
    items: Array,
    entries: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Add stage 1's score and rank, stage 2's score, the history's nearest item, the sources."""
    candidates = found.candidates.items[row]
    scores = found.candidates.scores[row].astype(np.float64).round(6)
    proposed = _proposers(recommender, found, row)
    rank = {int(item): position for position, item in enumerate(candidates)}
    reranked = recommender.reranks and found.sources[row] != "popular"
    nearest = _nearest(recommender, found.queries.history, row, items)
    result = []
    for entry, item, similar in zip(entries, items.tolist(), nearest, strict=True):
        at = rank.get(item)
        if at is None:  # pinned
            result.append(entry | {"similar_to": similar})
            continue
        facts = {
            "retrieval_score": float(scores[at]),
            "retrieval_rank": at + 1,
            "ranking_score": entry["score"] if reranked else None,
            "similar_to": similar,
        }
        result.append(entry | facts | ({"proposed_by": proposed[at]} if proposed else {}))
    return result


def _proposers(recommender: Recommender, found: Retrieved, row: int) -> list[list[str]]:
    """Return the sources that proposed each candidate of a request; none where there is one."""
    if found.candidates.proposed is None or found.sources[row] == "popular":
        return []
    names = list(recommender.proposing)
    bits = found.candidates.proposed[row].tolist()
    return [[name for at, name in enumerate(names) if bit >> at & 1] for bit in bits]


def _nearest(recommender: Recommender, history: Ragged, row: int, items: Array) -> list[Id | None]:
    """Return the id of the history's item with the largest cosine to each of `items` `[k]`."""
    seen = history.take(np.array([row])).values
    if not len(seen):
        return [None] * len(items)
    vectors = recommender.directions[seen]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Not a product of matrices, which rounds by place: of equal vectors the first one is nearest.
    units = vectors / np.maximum(lengths, 1e-12)
    cosines = np.einsum("kd,hd->kh", recommender.directions[items], units)
    return recommender.items.external(seen[cosines.argmax(axis=1)])

"""Answers in external ids, with scores and explanations."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import Id, Request, Retrieved, in_indices
from train.recommender.retrieval import retrieve


def recommend(recommender: Recommender, requests: Iterable[Request]) -> list[dict[str, Any]]:
    """Return the answer to every request, the same that serving gives.

    Returns:
        A dict a request: `items` (each `item_id`, `score` and, where known, `title`), `source`,
        `bundle` and, where there are any, `ignored`.
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
    ids, titles = recommender.item_names
    newest = queries.history.values[::-1][:count].tolist()
    return [
        {"item_id": ids[i]} | ({} if titles[i] is None else {"title": titles[i]}) for i in newest
    ]


def rank_retrieved(
    recommender: Recommender, requests: Sequence[Request], found: Retrieved
) -> tuple[Array, Array]:
    """Return the ranked items `[B, k]` and scores `[B, k]` for the largest `k` of the requests."""
    most = max(request.k for request in requests)
    return rank_candidates(recommender, found.queries, found.vectors, found.candidates, most)


def answers(
    recommender: Recommender,
    requests: Sequence[Request],
    found: Retrieved,
    items: Array,
    scores: Array,
) -> list[dict[str, Any]]:
    """Return the ranked items `[B, k]` and scores `[B, k]` as answers in external ids."""
    lists = _entries(recommender, items, scores)
    result: list[dict[str, Any]] = []
    for row, request in enumerate(requests):
        entries = lists[row][: request.k]
        if request.explain:
            entries = _explained(recommender, found, row, items[row], entries)
        answer: dict[str, Any] = {
            "items": entries,
            "source": found.sources[row],
            "bundle": recommender.version,
        }
        if found.ignored[row]:
            answer["ignored"] = found.ignored[row]
        result.append(answer)
    return result


def _entries(recommender: Recommender, items: Array, scores: Array) -> list[list[dict[str, Any]]]:
    ids, titles = recommender.item_names
    rounded = scores.astype(np.float64).round(6).tolist()
    return [
        [_entry(ids[i], score, titles[i]) for i, score in zip(*row, strict=True) if i >= 0]
        for row in zip(items.tolist(), rounded, strict=True)
    ]


def _entry(item: Id, score: float, title: str | None) -> dict[str, Any]:
    entry = {"item_id": item, "score": score}
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
    return [
        entry
        | {
            "retrieval_score": float(scores[rank[int(item)]]),
            "retrieval_rank": rank[int(item)] + 1,
            "ranking_score": entry["score"] if reranked else None,
            "similar_to": similar,
            **({"proposed_by": proposed[rank[int(item)]]} if proposed else {}),
        }
        for entry, item, similar in zip(entries, items, nearest, strict=False)
    ]


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

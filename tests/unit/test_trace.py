"""The trace of a request says what its answer is made of."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serve.telemetry import expected, neighbours
from tests.bundles import make_recommender
from tests.unit.test_rules import ITEMS, SYSTEMS, ids, may_be_recommended
from train.index.base import IndexSettings
from train.index.build import build_vector_index
from train.index.hnsw import library
from train.index.vector_index import VectorIndex
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.recommender.trace import FIRST, trace

ASKED: dict[str, dict[str, Any]] = {
    "plain": {"user_id": 1003},
    "new": {"history": [7, 9]},
    "nobody": {"k": 3},
    "rules": {"user_id": 1004, "filter": {"sale": {"eq": True}}, "allow": list(range(5, 60))},
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ASKED)
def test_a_trace_is_of_the_answer_that_is_given(system: str, name: str) -> None:
    recommender, request = SYSTEMS[system], Request(**ASKED[name])
    [answer] = recommend(recommender, [request])
    found = trace(recommender, request)
    first = found["candidates"]["first"]
    answered = [entry["item_id"] for entry in first if entry["answered_at"]]
    assert answered == ids(answer)[:FIRST]
    assert [entry["answered_at"] for entry in first[: len(answered)]] == [
        *range(1, len(answered) + 1)
    ]
    scores = {item["item_id"]: item["score"] for item in answer["items"]}
    for entry in first[: len(answered)]:
        assert entry["score"] == pytest.approx(scores[entry["item_id"]], abs=1e-5)
    allowed = {int(i) + 5 for i in np.flatnonzero(recommender.catalogue)}
    assert found["allowed"]["catalogue"] == len(allowed)
    seen = may_be_recommended(recommender, replace(request, seen="allow"))
    assert found["allowed"]["left"] == len(seen)
    assert found["asks"]["known_user"] == (request.user_id is not None)
    known = name != "nobody"
    assert bool(found["sources"]) == known
    for source in found["sources"]:
        assert len(source["first"]) == min(FIRST, source["proposes"])
    if known and system == "sources":
        assert {of["name"] for of in found["sources"]} == set(recommender.quotas)
        assert all(set(entry["by_source"]) == set(recommender.quotas) for entry in first)
    assert {"encode", "sources", "merge", "rank", "answer"} == set(found["milliseconds"])


@pytest.mark.skipif(not library(), reason="there is no graph without hnswlib")
def test_recall_is_counted_against_exact_search() -> None:
    plain = make_recommender(users=40, items=900)
    built = build_vector_index(IndexSettings(kind="hnsw"), plain.item_vectors, plain.catalogue)
    assert isinstance(built, VectorIndex)
    queries = plain.user_vectors[:20]
    found, exact = neighbours(replace(plain, index=built.exact()), queries)
    assert found == exact == 20 * 100
    poor = neighbours(replace(plain, index=built.at(1)), queries)
    assert poor[1] == exact and 0 < poor[0] < exact


def test_what_a_bundle_expects_are_the_scores_of_its_users() -> None:
    recommender = SYSTEMS["both stages"]
    asked = [Request(user_id=one, k=1) for one in recommender.users.ids.to_pylist()]
    scores = [answer["items"][0]["score"] for answer in recommend(recommender, asked)]
    told = expected(recommender)
    assert len(asked) <= 200 and ITEMS > 0
    assert told["raytower_first_score_expected"] == pytest.approx(np.mean(scores))
    assert told["raytower_first_score_deviation"] == pytest.approx(np.std(scores))

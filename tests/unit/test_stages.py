"""The two stages: always k, never a seen one, and no request depends on its neighbours."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundles import write_bundle, write_tower_bundle
from train.bundle.bundle import Bundle, open_bundle
from train.core.ragged import Ragged
from train.recommender.answers import recommend
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.recommender.retrieval import retrieve

USERS, ITEMS = 60, 120


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles")
    return open_bundle(write_bundle(folder, users=USERS, items=ITEMS))


@pytest.fixture(scope="module")
def unranked(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles")
    return open_bundle(write_bundle(folder, earned=False, users=USERS, items=ITEMS))


user_ids = st.one_of(
    st.none(), st.integers(995, 1000 + USERS + 5), st.sampled_from(["1000", "x", 10**30])
)
item_ids = st.one_of(st.integers(0, 5 + ITEMS + 5), st.sampled_from(["7", -1, 10**30]))
requests = st.builds(
    Request,
    user_id=user_ids,
    history=st.lists(item_ids, max_size=20),
    k=st.integers(1, 150),
    exclude=st.lists(item_ids, max_size=80),
    explain=st.booleans(),
)


def few(bundle: Bundle) -> Recommender:
    return replace(bundle.recommender, candidates=30)


def allowed(bundle: Bundle, request: Request) -> set[Any]:
    """What may be recommended, by the definition, in plain Python."""
    catalogue = set(bundle.recommender.items.external(np.flatnonzero(bundle.recommender.catalogue)))
    seen: set[Any] = set()
    user = bundle.recommender.users.index([request.user_id])
    if user[0] >= 0:
        seen |= set(
            bundle.recommender.items.external(bundle.recommender.histories.take(user).values)
        )
    return catalogue - seen - set(request.history) - set(request.exclude)


@settings(max_examples=40, deadline=None)
@given(batch=st.lists(requests, min_size=1, max_size=6))
def test_always_k_and_never_a_seen_or_excluded_item(bundle: Bundle, batch: list[Request]) -> None:
    for request, answer in zip(batch, recommend(few(bundle), batch), strict=True):
        given_items = [entry["item_id"] for entry in answer["items"]]
        possible = allowed(bundle, request)
        assert len(given_items) == min(request.k, len(possible))
        assert len(set(given_items)) == len(given_items)
        assert set(given_items) <= possible
        scores = [entry["score"] for entry in answer["items"]]
        assert scores == sorted(scores, reverse=True)


@settings(max_examples=40, deadline=None)
@given(batch=st.lists(requests, min_size=2, max_size=12))
def test_an_answer_does_not_depend_on_its_batch(bundle: Bundle, batch: list[Request]) -> None:
    together = recommend(few(bundle), batch)
    alone = [recommend(few(bundle), [request])[0] for request in batch]
    for one, other in zip(together, alone, strict=True):
        assert [e["item_id"] for e in one["items"]] == [e["item_id"] for e in other["items"]]
        scores = [np.array([e["score"] for e in answer["items"]]) for answer in (one, other)]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
        assert one["source"] == other["source"]
        assert one.get("ignored") == other.get("ignored")


def test_a_large_batch_gives_what_single_requests_give(bundle: Bundle) -> None:
    batch = [Request(user_id=1000 + i, k=10) for i in range(USERS)]
    alone = [recommend(bundle.recommender, [request])[0] for request in batch]
    for one, other in zip(recommend(bundle.recommender, batch), alone, strict=True):
        assert [e["item_id"] for e in one["items"]] == [e["item_id"] for e in other["items"]]


def test_sources_and_ignored_items(bundle: Bundle) -> None:
    answers = recommend(
        bundle.recommender,
        [
            Request(user_id=1000),
            Request(user_id=1000, history=[6]),
            Request(user_id="new", history=[6, "6", 99999]),
            Request(history=["nothing", "known"]),
            Request(),
            Request(user_id="1000"),
            Request(user_id=1000, history=[99999], exclude=["6", 99999, 6]),
        ],
    )
    expected = ["personal", "personal", "history", "popular", "popular", "popular", "personal"]
    assert [answer["source"] for answer in answers] == expected
    ignored = [None, None, ["new", "6", 99999], ["nothing", "known"], None, ["1000"], [99999, "6"]]
    assert [answer.get("ignored") for answer in answers] == ignored
    assert {answer["bundle"] for answer in answers} == {bundle.version}


def test_a_history_changes_what_is_recommended(bundle: Bundle) -> None:
    far = [[5, 6, 7], [50, 60, 70]]
    first, second = recommend(bundle.recommender, [Request(user_id="new", history=h) for h in far])
    assert [e["item_id"] for e in first["items"]] != [e["item_id"] for e in second["items"]]
    known, extended = recommend(
        bundle.recommender, [Request(user_id=1000), Request(1000, history=[50, 60])]
    )
    assert [e["score"] for e in known["items"]] != [e["score"] for e in extended["items"]]


def test_the_popular_answer_is_recent_popularity(bundle: Bundle) -> None:
    order = bundle.recommender.statistics.popular(recent=True)
    best = bundle.recommender.items.external(order[bundle.recommender.catalogue[order]][:5])
    answer = recommend(bundle.recommender, [Request(k=4, exclude=[best[1]])])[0]
    assert [e["item_id"] for e in answer["items"]] == [best[0], *best[2:5]]


def test_the_popular_answer_is_not_reranked(bundle: Bundle, unranked: Bundle) -> None:
    answers = [
        recommend(opened.recommender, [Request(explain=True)])[0] for opened in (bundle, unranked)
    ]
    assert answers[0]["items"] == answers[1]["items"]
    assert answers[0]["items"][0]["ranking_score"] is None


def test_a_reranker_that_earned_nothing_is_skipped(bundle: Bundle, unranked: Bundle) -> None:
    request = Request(user_id=1003, k=20, explain=True)
    skipped = recommend(unranked.recommender, [request])[0]["items"]
    assert [entry["retrieval_rank"] for entry in skipped] == list(range(1, 21))
    assert [entry["score"] for entry in skipped] == [entry["retrieval_score"] for entry in skipped]
    assert {entry["ranking_score"] for entry in skipped} == {None}
    reranked = recommend(bundle.recommender, [request])[0]["items"]
    assert [entry["retrieval_rank"] for entry in reranked] != list(range(1, 21))
    assert [entry["ranking_score"] for entry in reranked] == [entry["score"] for entry in reranked]


def test_stage_one_returns_the_largest_products(unranked: Bundle) -> None:
    scores = unranked.recommender.item_vectors @ unranked.recommender.user_vectors[3]
    scores[~unranked.recommender.catalogue] = -np.inf
    scores[unranked.recommender.histories.take(np.array([3])).values] = -np.inf
    best = unranked.recommender.items.external(np.argsort(-scores)[:10])
    answer = recommend(unranked.recommender, [Request(user_id=1003)])[0]
    assert [entry["item_id"] for entry in answer["items"]] == best


def test_explanations_name_the_nearest_item_of_the_history(bundle: Bundle) -> None:
    answer = recommend(bundle.recommender, [Request(user_id="new", history=[8, 9], explain=True)])[
        0
    ]
    units = bundle.recommender.item_vectors / np.linalg.norm(
        bundle.recommender.item_vectors, axis=1, keepdims=True
    )
    for entry in answer["items"]:
        cosines = units[[3, 4]] @ units[entry["item_id"] - 5]
        assert entry["similar_to"] == [8, 9][int(cosines.argmax())]


def test_titles_come_where_there_are_any(bundle: Bundle) -> None:
    for entry in recommend(bundle.recommender, [Request(user_id=1001, k=100)])[0]["items"]:
        index = entry["item_id"] - 5
        assert entry.get("title") == (None if index % 7 == 0 else f"Title {index}")


def test_no_requests_give_no_answers(bundle: Bundle) -> None:
    assert recommend(bundle.recommender, []) == []


def test_a_useless_number_of_candidates_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="candidates: expected at least 1, got 0"):
        replace(bundle.recommender, candidates=0)


def test_padded_candidates_are_never_ranked(bundle: Bundle) -> None:
    more = replace(bundle.recommender, candidates=ITEMS + 50)
    found = retrieve(more, [Request(user_id=1000)])
    assert (found.candidates.items < 0).any()
    items, scores = rank_candidates(
        more, found.queries, found.vectors, found.candidates, found.candidates.items.shape[1]
    )
    assert len(allowed(bundle, Request(user_id=1000))) == (items >= 0).sum()
    assert (np.isfinite(scores) == (items >= 0)).all()


def test_a_known_user_needs_neither_torch_nor_ray(bundle: Bundle) -> None:
    code = (
        "import sys; from train.bundle.bundle import open_bundle;"
        "from train.recommender.answers import Request, recommend;"
        f"opened = open_bundle({str(bundle.folder)!r});"
        "answer = recommend(opened.recommender, [Request(user_id=1000)]);"
        "assert answer[0]['source'] == 'personal';"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stderr, done.stdout) == ("", "[]\n")


@pytest.fixture(scope="module")
def towered(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles")
    return open_bundle(write_tower_bundle(folder, users=USERS, items=ITEMS))


def test_the_tower_encodes_histories(towered: Bundle) -> None:
    assert towered.recommender.candidates == 40
    given = [Request(user_id="new", history=[6, 7]), Request(1000, history=[8]), Request(1000)]
    found = retrieve(towered.recommender, given)
    stored = towered.recommender.histories.take(np.array([0])).values
    histories = Ragged.from_rows([[1, 2], [*stored, 3]])
    expected = towered.recommender.encode_users(np.array([-1, 0]), histories)
    np.testing.assert_allclose(found.vectors[:2], expected, atol=1e-5)
    np.testing.assert_array_equal(found.vectors[2], towered.recommender.user_vectors[0])
    assert np.abs(found.vectors[1] - found.vectors[2]).max() > 1e-3


def test_the_tower_gives_the_stored_vector_for_the_stored_history(towered: Bundle) -> None:
    users = np.arange(USERS)
    encoded = towered.recommender.encode_users(users, towered.recommender.histories)
    np.testing.assert_allclose(encoded, towered.recommender.user_vectors, atol=1e-5)


def test_a_history_of_unknown_items_changes_nothing(towered: Bundle) -> None:
    plain, other = recommend(
        towered.recommender, [Request(1000), Request(1000, history=["unknown"])]
    )
    assert other.pop("ignored") == ["unknown"]
    assert plain == other


@pytest.mark.parametrize("user_id", [1000, None])
def test_what_is_excluded_without_effect_changes_nothing(
    towered: Bundle, user_id: int | None
) -> None:
    plain = recommend(towered.recommender, [Request(user_id, history=[6])])[0]
    excludes: list[list[int | str]] = [["unknown"], ["6", 99999, "6"]]
    for exclude in excludes:
        request = Request(user_id, history=[6], exclude=exclude)
        other = recommend(towered.recommender, [request])[0]
        assert other.pop("ignored") == list(dict.fromkeys(exclude))
        assert plain == other


@settings(max_examples=20, deadline=None)
@given(batch=st.lists(requests, min_size=2, max_size=8))
def test_with_a_tower_an_answer_does_not_depend_on_its_batch(
    towered: Bundle, batch: list[Request]
) -> None:
    alone = [recommend(towered.recommender, [request])[0] for request in batch]
    assert recommend(towered.recommender, batch) == alone

"""Rules of requests: filters, always k, boosts, pins, at most so many, diversity."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundles import make_recommender
from train.data.columns import Columns
from train.recommender.answers import recommend
from train.recommender.filters import RuleError, matching
from train.recommender.given_items import rank_items, similar_items
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.recommender.rules import check
from train.sources.lists import ListSource
from train.sources.vectors import VectorSource

ITEMS, USERS = 300, 60
BRANDS = ("ant", "bee", "cat", "dog", "eel")
TAGS = ("red", "small", "adult", "new")


def columns() -> Columns:
    """Return planted columns: some values are missing, some lists are empty."""
    rng = np.random.default_rng(3)
    brand = [None if i % 11 == 0 else BRANDS[rng.integers(5)] for i in range(ITEMS)]
    tags = [None if i % 13 == 0 else [t for t in TAGS if rng.random() < 0.4] for i in range(ITEMS)]
    price = [None if i % 17 == 0 else float(rng.integers(1, 100)) / 4 for i in range(ITEMS)]
    sale = [None if i % 19 == 0 else bool(rng.integers(2)) for i in range(ITEMS)]
    values = {
        "brand": pa.array(brand, pa.string()),
        "tags": pa.array(tags, pa.list_(pa.string())),
        "price": pa.array(price, pa.float32()),
        "sale": pa.array(sale, pa.bool_()),
        "blurb": pa.array([f"text {i}" for i in range(ITEMS)]),
    }
    kinds: Any = dict(
        zip(values, ("category", "categories", "number", "flag", "text"), strict=True)
    )
    return Columns(kinds, values)


def planted(several: bool = False, reranked: bool = True) -> Recommender:
    plain = make_recommender(users=USERS, items=ITEMS, reranked=reranked and not several)
    plain = replace(plain, columns=columns(), candidates=40)
    if not several:
        return plain
    scores = np.random.default_rng(0).random(ITEMS).astype(np.float32)
    eye = np.eye(16, dtype=np.float32)
    sources: Any = {
        "list": ListSource(scores, plain.catalogue),
        "vectors": VectorSource(plain.item_vectors, plain.catalogue, eye, np.array(1.0)),
    }
    quotas = {"tower": None, **dict.fromkeys(sources)}
    return replace(plain, sources=sources, quotas=quotas, served="stage_1")


SYSTEMS = {"both stages": planted(), "sources": planted(several=True)}
PYTHON = {name: of.to_pylist() for name, of in columns().values.items()}


def reference(filter: Any, item: int) -> bool:
    """Say whether an item passes, value by value in Python."""
    return all(reference_of(key, of, item) for key, of in filter.items())


def reference_of(key: str, of: Any, item: int) -> bool:
    if key == "not":
        return not reference(of, item)
    if key in ("and", "or"):
        return (all if key == "and" else any)(reference(one, item) for one in of)
    value = PYTHON[key][item]
    return all(holds(name, value, wanted) for name, wanted in of.items())


def holds(name: str, value: Any, wanted: Any) -> bool:
    if name == "exists":
        return bool((value is not None) == wanted)
    if value is None:
        return False
    checks = {
        "eq": lambda: value == wanted,
        "ne": lambda: value != wanted,
        "lt": lambda: value < wanted,
        "le": lambda: value <= wanted,
        "gt": lambda: value > wanted,
        "ge": lambda: value >= wanted,
        "in": lambda: value in wanted,
        "any": lambda: bool(set(value) & set(wanted)),
        "all": lambda: set(wanted) <= set(value),
    }
    return bool(checks[name]())


prices = st.integers(0, 104).map(lambda quarter: quarter / 4)
brands = st.lists(st.sampled_from((*BRANDS, "fox")), min_size=1, max_size=3)
tags = st.lists(st.sampled_from(TAGS), min_size=1, max_size=3)
leaves = st.one_of(
    st.builds(lambda of: {"brand": {"in": of}}, brands),
    st.builds(lambda of: {"brand": {"ne": of[0]}}, brands),
    st.builds(lambda name, of: {"tags": {name: of}}, st.sampled_from(["any", "all"]), tags),
    st.builds(lambda low, high: {"price": {"ge": low, "lt": high}}, prices, prices),
    st.builds(lambda of: {"sale": {"eq": of}}, st.booleans()),
    st.builds(
        lambda name, of: {name: {"exists": of}}, st.sampled_from(sorted(PYTHON)), st.booleans()
    ),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda of: {"not": of}, inner),
        st.builds(
            lambda name, of: {name: of},
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
    ),
    max_leaves=6,
)


@given(filters)
@settings(max_examples=200)
def test_a_filter_lets_pass_what_its_conditions_say(filter: Any) -> None:
    expected = [reference(filter, item) for item in range(ITEMS)]
    assert matching(columns(), filter).tolist() == expected


requests = st.fixed_dictionaries(
    {"k": st.integers(1, 60)},
    optional={
        "user_id": st.integers(995, 1000 + USERS),
        "history": st.lists(st.integers(5, 4 + ITEMS), max_size=6),
        "exclude": st.lists(st.integers(5, 4 + ITEMS), max_size=10),
        "filter": filters,
        "allow": st.lists(st.integers(0, 4 + ITEMS), max_size=80),
        "seen": st.sampled_from(["exclude", "allow"]),
        "boost": st.lists(
            st.fixed_dictionaries({"filter": leaves, "factor": st.sampled_from([0.01, 3.0])}),
            max_size=2,
        ),
        "max_per": st.dictionaries(
            st.sampled_from(["brand", "tags", "sale"]), st.integers(1, 5), max_size=2
        ),
        "diversity": st.sampled_from([0.0, 0.3, 1.0]),
        "pin": st.lists(
            st.fixed_dictionaries(
                {"item_id": st.integers(0, 4 + ITEMS), "position": st.integers(1, 70)}
            ),
            max_size=3,
            unique_by=lambda pin: pin["position"],
        ),
    },
)


@pytest.mark.parametrize("system", SYSTEMS)
@given(asked=st.lists(requests, min_size=1, max_size=4))
@settings(max_examples=60)
def test_no_rule_is_broken_and_there_are_always_k(system: str, asked: list[Any]) -> None:
    recommender = SYSTEMS[system]
    given_ = [Request(**one) for one in asked]
    for request, answer in zip(given_, recommend(recommender, given_), strict=True):
        alone = recommend(recommender, [request])[0]
        assert ids(alone) == ids(answer)
        assert_rules(recommender, request, answer)


def ids(answer: Any) -> list[int]:
    return [item["item_id"] for item in answer["items"]]


def assert_rules(recommender: Recommender, request: Request, answer: Any) -> None:
    found = ids(answer)
    assert len(set(found)) == len(found) <= request.k
    pinned = {item["item_id"] for item in answer["items"] if item.get("pinned")}
    open_ = may_be_recommended(recommender, request)
    assert set(found) - pinned <= open_
    for pin in request.pin:
        if pin["item_id"] in pinned and pin["position"] <= len(found):
            assert found.index(pin["item_id"]) <= pin["position"] - 1
        assert pin["item_id"] not in request.exclude or pin["item_id"] not in found
    for name, most in request.max_per.items():
        of = Counter(v for i in found if i not in pinned for v in listed(PYTHON[name][i - 5]))
        assert all(count <= most for count in of.values())
    if len(found) < request.k:
        assert answer["short"].startswith(f"{len(found)} of {request.k}: ")
        if not request.max_per:
            assert open_ <= set(found)
        else:  # whatever is left would be one too many of something
            kinds = {name: Counter[Any]() for name in request.max_per}
            for i in found:
                for name, count in kinds.items():
                    count.update(listed(PYTHON[name][i - 5]))
            for i in open_ - set(found):
                assert any(
                    kinds[name][value] >= most
                    for name, most in request.max_per.items()
                    for value in listed(PYTHON[name][i - 5])
                )
    else:
        assert "short" not in answer


def listed(value: Any) -> list[Any]:
    return (
        [] if value is None else list(dict.fromkeys(value)) if isinstance(value, list) else [value]
    )


def may_be_recommended(recommender: Recommender, request: Request) -> set[int]:
    left = {int(i) + 5 for i in np.flatnonzero(recommender.catalogue)}
    left -= set(request.exclude)
    if request.seen != "allow":
        user = recommender.users.index([request.user_id])
        left -= {int(i) + 5 for i in recommender.histories.take(user).values}
        left -= set(request.history)
    if request.filter is not None:
        left = {i for i in left if reference(request.filter, i - 5)}
    return left if request.allow is None else left & set(request.allow)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_filter_keeps_the_order_of_stage_1_and_finds_all(system: str) -> None:
    recommender = replace(SYSTEMS[system], reranker=None, served="stage_1", candidates=ITEMS)
    filter = {"tags": {"any": ["red"]}}
    every = recommend(recommender, [Request(user_id=1001, k=ITEMS)])[0]
    some = recommend(recommender, [Request(user_id=1001, k=ITEMS, filter=filter)])[0]
    passing = [i for i in ids(every) if reference(filter, i - 5)]
    assert set(ids(some)) == set(passing)
    if system == "both stages":  # a single source, whose scores are those without the filter
        assert ids(some) == passing


def test_boosts_move_items_up_and_down() -> None:
    recommender = planted()
    plain = recommend(recommender, [Request(user_id=1002, k=40)])[0]
    last = ids(plain)[-1]
    allow = {"brand": {"exists": True}, "price": {"exists": True}}
    for factor, better in ((1e6, True), (1e-6, False)):
        boost = [{"filter": allow, "factor": factor}]
        found = ids(recommend(recommender, [Request(user_id=1002, k=40, boost=boost)])[0])
        assert set(found) == set(ids(plain)) and last in found
        passing = [reference(allow, i - 5) for i in found]
        assert passing == sorted(passing, reverse=better)


def test_pinned_items_count_and_excluded_ones_are_not_pinned() -> None:
    recommender = planted()
    brand = PYTHON["brand"]
    of_ants = [i + 5 for i in range(ITEMS) if brand[i] == "ant" and recommender.catalogue[i]][:2]
    pin = [{"item_id": item, "position": at} for at, item in enumerate(of_ants, start=1)]
    [answer] = recommend(recommender, [Request(k=20, seen="allow", pin=pin, max_per={"brand": 2})])
    assert ids(answer)[:2] == of_ants
    assert [item.get("pinned") for item in answer["items"][:3]] == [True, True, None]
    assert sum(brand[i - 5] == "ant" for i in ids(answer)) == 2
    excluded = Request(k=20, pin=pin, exclude=of_ants[:1])
    [answer] = recommend(recommender, [excluded])
    assert of_ants[0] not in ids(answer) and answer["ignored"] == of_ants[:1]
    assert ids(answer)[1] == of_ants[1]


def test_diversity_brings_items_further_apart() -> None:
    recommender = planted()

    def alike(diversity: float) -> float:
        found = recommend(recommender, [Request(user_id=1003, k=10, diversity=diversity)])[0]
        vectors = recommender.directions[recommender.items.index(ids(found))]
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((units @ units.T)[np.triu_indices(10, 1)].mean())

    assert alike(1.0) < alike(0.5) < alike(0.0)


def test_columns_of_the_items_come_with_the_answer() -> None:
    [answer] = recommend(planted(), [Request(user_id=1000, k=5, fields=["brand", "tags"])])
    for item in answer["items"]:
        at = item["item_id"] - 5
        assert item["fields"] == {"brand": PYTHON["brand"][at], "tags": PYTHON["tags"][at]}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"filter": {"brnad": {"eq": "ant"}}},
            "filter.brnad: unknown column 'brnad'; did you mean",
        ),
        ({"filter": {"brand": {"lt": 3}}}, "filter.brand.lt: unknown operator 'lt' for brand, a"),
        ({"filter": {"price": {"lt": "3"}}}, "filter.price.lt: expected a number for price, a num"),
        ({"filter": {"price": {"lt": True}}}, "expected a number for price"),
        ({"filter": {"sale": {"eq": 1}}}, "expected a bool for sale, a flag"),
        ({"filter": {"tags": {"any": "red"}}}, "expected a list of one value or more for tags"),
        ({"filter": {"tags": {"any": ["red", 3]}}}, "filter.tags.any.1: expected a string"),
        ({"filter": {"blurb": {"eq": "x"}}}, "unknown operator 'eq' for blurb, a text"),
        ({"filter": {}}, "filter: expected an object such as"),
        ({"filter": {"and": []}}, "filter.and: expected a list of one filter or more"),
        ({"filter": {"price": 3}}, 'filter.price: expected an object such as {"lt": 20}'),
        ({"max_per": {"blurb": 1}}, "max_per.blurb: expected a column of categories, not text"),
        ({"fields": ["nothing"]}, "fields.0: unknown column 'nothing'"),
        ({"boost": [{"filter": {"x": {}}, "factor": 2.0}]}, "boost.0.filter.x: unknown column"),
        ({"pin": [{"item_id": 5, "position": 1}] * 2}, "pin: expected each position once"),
    ],
)
def test_rules_that_cannot_be_followed_say_why(rules: Any, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        check(planted(), Request(**rules))
    assert message in str(caught.value)


def test_filters_without_end_are_refused() -> None:
    filter: Any = {"sale": {"eq": True}}
    for _ in range(500):
        filter = {"not": filter}
    with pytest.raises(RuleError, match="at most 20 filters within each other"):
        matching(columns(), filter)


def test_a_bundle_without_columns_says_so() -> None:
    with pytest.raises(RuleError, match="this bundle has no columns of items to filter by"):
        check(replace(planted(), columns=Columns()), Request(filter={"brand": {"eq": "ant"}}))


@pytest.mark.parametrize("system", SYSTEMS)
def test_given_items_are_ranked_as_they_would_be_recommended(system: str) -> None:
    recommender = replace(SYSTEMS[system], served="tower") if system == "sources" else None
    recommender = recommender or replace(SYSTEMS[system], reranker=None, served="stage_1")
    request = Request(user_id=1004, k=30)
    best = ids(recommend(recommender, [request])[0])
    shuffled = np.random.default_rng(0).permutation(best).tolist()
    answer = rank_items(recommender, request, [*shuffled, 99999, shuffled[0]])
    assert ids(answer) == best
    assert answer["ignored"] == [99999]
    assert answer["source"] == "personal"
    popular = rank_items(recommender, Request(), shuffled)
    assert popular["source"] == "popular" and set(ids(popular)) == set(best)


@pytest.mark.parametrize("system", SYSTEMS)
def test_both_stages_rank_given_items(system: str) -> None:
    answer = rank_items(SYSTEMS[system], Request(user_id=1004), [7, 9, 11, 13])
    assert sorted(ids(answer)) == [7, 9, 11, 13]
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def test_similar_items_are_the_nearest_by_cosine() -> None:
    recommender = planted()
    [seed, other] = 25, 31
    found = similar_items(recommender, [seed], [], Request(k=5))
    units = recommender.directions / np.linalg.norm(recommender.directions, axis=1)[:, None]
    cosines = units @ units[seed - 5]
    cosines[~recommender.catalogue] = -np.inf
    cosines[seed - 5] = -np.inf
    assert ids(found) == (np.argsort(-cosines)[:5] + 5).tolist()
    assert found["items"][0]["score"] == pytest.approx(cosines.max(), abs=1e-5)
    unlike = similar_items(recommender, [seed], [other, 10**6], Request(k=5))
    assert unlike["ignored"] == [10**6] and other not in ids(unlike)
    some = similar_items(recommender, [seed], [], Request(k=50, filter={"sale": {"eq": True}}))
    assert all(PYTHON["sale"][i - 5] for i in ids(some))
    with pytest.raises(RuleError, match="expected an item of the bundle"):
        similar_items(recommender, [10**6], [], Request())

"""Attributes of users that come with a request: read as those of the table are, or refused."""

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundles import make_recommender
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.encoders import Encoder
from train.recommender.answers import recommend
from train.recommender.attributes import attributes_of
from train.recommender.filters import RuleError
from train.recommender.recommender import Recommender
from train.recommender.requests import Request, in_indices, is_popular
from train.recommender.retrieval import retrieve
from train.recommender.rules import check
from train.rerankers.features import candidate_features, feature_names

KINDS = {
    "colour": "category",
    "interests": "categories",
    "age": "number",
    "size": "number",
    "member": "flag",
    "about": "text",
    "face": "embedding",
}


def table(count: int = 40, seed: int = 0) -> pa.Table:
    """Return users with a column of each kind, some values missing."""
    rng = np.random.default_rng(seed)
    words = np.array(["red wine", "long books", "short films", "old cars and wine"])
    faces = pa.array(rng.normal(size=(count, 3)).astype(np.float32).tolist())
    missing = rng.random(count) < 0.2
    return pa.table(
        {
            "colour": pa.array(rng.choice(["red", "green", "7"], count), mask=missing),
            "interests": [
                sorted({f"tag {n}" for n in rng.integers(0, 5, 3)}) for _ in range(count)
            ],
            "age": pa.array(rng.integers(14, 99, count).astype(np.float32), mask=missing),
            "size": rng.normal(size=count).astype(np.float32),
            "member": pa.array(rng.random(count) < 0.5, mask=missing),
            "about": pa.array(rng.choice(words, count), mask=missing),
            "face": faces.cast(pa.list_(pa.float32(), 3)),
        }
    )


TABLE = table()
ENCODER = Encoder.fit(TABLE, KINDS)  # type: ignore[arg-type]


@cache
def recommender() -> Recommender:
    """Return a planted recommender whose stage 2 reads two dense attributes of users."""
    return make_recommender(users=40, items=80)


def own(features: Features) -> Recommender:
    return replace(recommender(), user_features=features, user_encoder=ENCODER)


@given(st.integers(0, 39), st.sets(st.sampled_from(list(KINDS)), min_size=1))
def test_what_is_stored_changes_nothing_when_it_is_given(user, names):
    stored = ENCODER.encode(TABLE)
    values = {name: TABLE[name][user].as_py() for name in names}
    given, described = attributes_of(own(stored), np.array([user, -1]), [values, {}])
    assert given is None and described is None


@given(st.integers(0, 39), st.integers(0, 39), st.sets(st.sampled_from(list(KINDS))))
def test_some_columns_are_those_of_the_request_and_the_rest_what_is_stored(user, other, names):
    stored = ENCODER.encode(TABLE)
    values = {name: TABLE[name][other].as_py() for name in names}
    mixed = {name: TABLE[name][other if name in names else user :][:1] for name in KINDS}
    expected = ENCODER.encode(pa.table(mixed))
    given, _ = attributes_of(own(stored), np.array([user]), [values])
    found = stored.take(np.array([user])) if given is None else given
    np.testing.assert_array_equal(found.dense, expected.dense)
    assert found.categories.values.tolist() == expected.categories.values.tolist()


def test_a_new_user_has_what_is_given_and_the_rest_is_missing():
    known = own(ENCODER.encode(TABLE))
    values = {"colour": 7, "age": 30, "interests": ["tag 1", "never seen"], "face": None}
    given, described = attributes_of(known, np.array([-1, 3]), [values, {}])
    assert given is not None and described is not None and described.tolist() == [True, False]
    row = {name: pa.nulls(1, TABLE[name].type) for name in KINDS}
    row |= {"colour": pa.array(["7"]), "interests": pa.array([["tag 1"]])}
    expected = ENCODER.encode(pa.table(row | {"age": pa.array([30.0], pa.float32())}))
    np.testing.assert_array_equal(given.dense[0], expected.dense[0])
    codes = given.categories.take(np.array([0])).values.tolist()
    assert codes == expected.categories.values.tolist()
    np.testing.assert_array_equal(given.dense[1], known.user_features.dense[3])


WRONG = [
    ({"shoe": 3}, ("user", "shoe"), "unknown column; there are: colour (category), interests"),
    ({"age": "thirty"}, ("user", "age"), "of kind number: expected a number"),
    ({"age": True}, ("user", "age"), "expected a number"),
    ({"age": float("nan")}, ("user", "age"), "expected a number"),
    ({"age": 1e300}, ("user", "age"), "expected a number"),
    ({"age": -(10**400)}, ("user", "age"), "expected a number"),
    ({"face": [1.0, 2.0, 1e39]}, ("user", "face"), "expected a list of 3 numbers"),
    ({"colour": ["red"]}, ("user", "colour"), "of kind category: expected a string"),
    ({"colour": 1.5}, ("user", "colour"), "expected a string"),
    ({"interests": "tag 1"}, ("user", "interests"), "expected a list of strings"),
    ({"interests": [None]}, ("user", "interests"), "expected a list of strings"),
    ({"member": 1}, ("user", "member"), "expected true or false"),
    ({"about": 7}, ("user", "about"), "expected a text"),
    ({"about": "x" * 10_001}, ("user", "about"), "expected a text"),
    ({"face": [1.0, 2.0]}, ("user", "face"), "expected a list of 3 numbers"),
    ({"face": [1.0, 2.0, "3"]}, ("user", "face"), "expected a list of 3 numbers"),
]


@pytest.mark.parametrize(("values", "place", "message"), WRONG)
def test_what_is_no_attribute_is_refused(values, place, message):
    known = own(ENCODER.encode(TABLE))
    for refuse in (check, lambda made, request: recommend(made, [request])):
        with pytest.raises(RuleError) as caught:
            refuse(known, Request(user=values))
        assert caught.value.place == place and message in str(caught.value)


def test_attributes_that_nothing_reads_are_refused():
    plain = recommender()
    with pytest.raises(RuleError, match="this bundle has no attributes of users"):
        check(plain, Request(user={"age": 3}))
    stage_1 = replace(own(ENCODER.encode(TABLE)), served="stage_1")
    with pytest.raises(RuleError, match=r"\(stage_1\) reads no attributes of users"):
        check(stage_1, Request(user={"age": 3}))
    check(replace(stage_1, towers_read_attributes=True), Request(user={"age": 3}))


def described_by(known: Recommender, *requests: Request) -> np.ndarray:
    """Return the features of the first candidate of each request, `[B, F]`."""
    found = retrieve(known, requests)
    first = found.candidates.first(1)
    return candidate_features(known.described, found.queries, first)


def test_stage_two_reads_the_attributes_of_the_request():
    made = recommender()
    features = made.user_features
    number = {"kind": "number", "mean": 0.0, "scale": 1.0, "missing": False}
    colours = {"kind": "category", "vocabulary": ["blue", "green", "red"]}
    encoder = Encoder({"size": number, "weight": number, "colour": colours})
    known = replace(made, user_encoder=encoder)
    user = known.users.external(np.array([4]))[0]
    names = feature_names(known.described)
    size, weight = names.index("user_size"), names.index("user_weight")
    rows = described_by(
        known, Request(user), Request(user, user={"size": 2.5}), Request(user={"weight": 1})
    )
    assert rows[0, size] == features.dense[4, 0] and rows[1, size] == np.float32(2.5)
    assert rows[0, weight] == rows[1, weight] == features.dense[4, 1]
    assert (rows[2, size], rows[2, weight]) == (0, 1)
    rest = [n for n in range(len(names)) if n not in (size, weight)]
    np.testing.assert_array_equal(rows[0, rest], rows[1, rest])
    asked = [Request(), Request(user={"size": 1}), Request(user, user={"size": 9})]
    queries, given, _ = in_indices(known, asked)
    assert is_popular(queries).tolist() == [True, False, False]
    assert not given.any()  # the towers read none
    assert [a["source"] for a in recommend(known, asked)] == ["popular", "attributes", "personal"]
    # Of a request alone, and among others.
    assert recommend(known, asked)[1] == recommend(known, asked[1:2])[0]


def test_rows_of_features_are_taken_as_they_are():
    features = ENCODER.encode(TABLE)
    rows = np.array([5, -1, 5])
    taken = features.take(rows)
    np.testing.assert_array_equal(taken.dense[0], features.dense[5])
    assert not taken.dense[1].any() and not len(taken.categories.take(np.array([1])).values)
    assert taken.categories.take(np.array([2])).values.tolist() == (
        features.categories.take(np.array([5])).values.tolist()
    )
    nobody = Features(np.zeros((0, 2), np.float32), ("a", "b"), Ragged.empty(0), ())
    assert nobody.take(np.array([-1])).dense.shape == (1, 2)


def test_of_a_new_user_only_what_reads_attributes_proposes():
    known = own(ENCODER.encode(TABLE))
    asked = Request(user={"age": 30}, k=80)
    # The towers read none: what is popular is what stage 2 orders.
    found = retrieve(known, [asked]).candidates.items[0]
    assert found[found >= 0].tolist() == known.popular.tolist()
    reading = replace(known, towers_read_attributes=True, encode=lambda user, *_: vectors(user))
    near = retrieve(reading, [asked]).candidates.items[0]
    scores = reading.item_vectors[near[near >= 0]] @ vectors(np.array([-1]))[0]
    assert (np.diff(scores) <= 1e-5).all() and near.tolist() != found.tolist()


def vectors(user: Array) -> Array:
    """Return vectors that items are as near to as their first element is great."""
    return np.eye(16, dtype=np.float32)[np.zeros(len(user), int)]

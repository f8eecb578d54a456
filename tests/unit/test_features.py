"""Id maps and column encoders: what goes in comes back, and what is unknown stays unknown."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.core.features import Features
from train.core.ragged import Ragged
from train.core.schema import Kind, Tables
from train.data.encoded import encode
from train.data.encoders import Encoder
from train.data.ids import IdMap

INTEGERS = st.integers(-(2**63), 2**63 - 1)
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


def id_map(values: list[Any]) -> IdMap:
    kind = pa.int64() if type(values[0]) is int else pa.string()
    return IdMap.of(pa.chunked_array([values], kind))


@given(st.lists(INTEGERS, min_size=1) | st.lists(st.text(), min_size=1))
def test_ids_come_back_as_they_went_in(values: list[Any]) -> None:
    ids = id_map(values)
    index = ids.index(values)
    assert index.dtype == np.int32
    assert ids.external(index) == values
    assert [type(value) for value in ids.external(index)] == [type(value) for value in values]
    assert sorted(set(index.tolist())) == list(range(len(ids)))


@given(st.lists(INTEGERS, min_size=1) | st.lists(st.text(), min_size=1))
def test_indices_are_in_the_order_of_the_ids(values: list[Any]) -> None:
    ids = id_map(values)
    # Strings are ordered by their bytes.
    key = (lambda v: v.encode()) if type(values[0]) is str else int
    assert ids.ids.to_pylist() == sorted(set(values), key=key)


@given(st.sampled_from([[1, 5], ["1", "a"]]), st.lists(ANYTHING))
def test_what_is_no_id_is_unknown_and_no_error(known: list[Any], asked: list[Any]) -> None:
    kind = type(known[0])
    expected = [known.index(a) if type(a) is kind and a in known else -1 for a in asked]
    assert id_map(known).index(asked).tolist() == expected


def test_a_number_is_not_its_text_and_a_flag_is_no_number() -> None:
    assert id_map([0, 1]).index([True, False, "1", 1.0, 1]).tolist() == [-1, -1, -1, -1, 1]
    assert id_map(["1", "True"]).index([1, True, "1"]).tolist() == [-1, -1, 0]


@pytest.mark.parametrize(
    "asked",
    [
        [7, 3, 9],
        (7, 3, 9),
        np.array([7, 3, 9]),
        np.array([7, 3, 9], np.int32),
        pa.array([7, 3, 9]),
        pa.chunked_array([[7], [3, 9]]),
        pa.chunked_array([[7], [3, 9]], pa.int32()),
    ],
    ids=lambda asked: type(asked).__name__,
)
def test_every_kind_of_sequence_is_looked_up(asked: Any) -> None:
    assert id_map([9, 7]).index(asked).tolist() == [0, -1, 1]


@pytest.mark.parametrize(
    "asked",
    [
        np.array(["7"]),
        np.array([True]),
        np.array([7.0]),
        pa.array(["7"]),
        pa.array([7.0]),
        pa.array([None], pa.int64()),
    ],
    ids=lambda asked: str(asked.dtype if isinstance(asked, np.ndarray) else asked.type),
)
def test_columns_of_another_type_are_unknown(asked: Any) -> None:
    assert id_map([9, 7]).index(asked).tolist() == [-1]


def test_ids_of_several_columns_make_one_map() -> None:
    first, second = pa.chunked_array([[3, 1], [3]]), pa.chunked_array([[2]])
    assert IdMap.of(first, second).ids.to_pylist() == [1, 2, 3]


COLUMNS: dict[str, Kind] = {
    "colour": "category",
    "tags": "categories",
    "year": "number",
    "new": "flag",
    "plot": "text",
    "image": "embedding",
}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {
        "colour": pa.string(),
        "tags": pa.list_(pa.string()),
        "year": pa.float32(),
        "new": pa.bool_(),
        "plot": pa.string(),
        "image": pa.list_(pa.float32(), 2),
    }
    return pa.table({n: pa.array([r.get(n) for r in rows], k) for n, k in kinds.items()})


ROWS: list[dict[str, Any]] = [
    {"colour": "red", "tags": ["b", "a"], "year": 1990, "new": True, "plot": "a ship at sea"},
    {"colour": "blue", "tags": [], "year": 2010, "new": False, "plot": "the sea and a whale"},
    {"tags": ["c"], "image": [1.0, 2.0], "plot": "a whale and a ship in the city"},
]


def only(column: str, rows: list[dict[str, Any]] = ROWS, fitted: Any = ROWS) -> Features:
    encoder = Encoder.fit(table(fitted), {column: COLUMNS[column]})
    return encoder.encode(table(rows))


def test_a_category_is_one_code_and_a_missing_one_none() -> None:
    found = only("colour")
    assert found.vocabulary == ("colour=blue", "colour=red")
    assert (found.categories.values.tolist(), found.categories.lengths.tolist()) == (
        [1, 0],
        [1, 1, 0],
    )


def test_categories_are_codes_in_the_order_given() -> None:
    found = only("tags")
    assert [found.vocabulary[code] for code in found.categories.values] == [
        "tags=b",
        "tags=a",
        "tags=c",
    ]
    assert found.categories.lengths.tolist() == [2, 0, 1]


def test_a_number_is_scaled_and_says_where_it_is_missing() -> None:
    found = only("year")
    assert found.dense_names == ("year_0", "year_1")
    np.testing.assert_allclose(found.dense, [[-1, 0], [1, 0], [0, 1]], atol=1e-6)


def test_a_number_that_is_never_missing_is_one_column() -> None:
    found = only("year", ROWS, ROWS[:2])
    np.testing.assert_allclose(found.dense, [[-1], [1], [0]], atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e30, -16777217.0])
def test_a_number_that_never_changes_is_0(value: float) -> None:
    rows = [{"year": value}] * 7
    np.testing.assert_array_equal(only("year", rows, rows).dense, np.zeros((7, 1)))


@given(st.lists(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_finite_and_of_unit_scale(values: list[float | None]) -> None:
    rows = [{"year": value} for value in values]
    dense = only("year", rows, rows).dense
    assert np.isfinite(dense).all()
    present = dense[[value is not None for value in values], 0]
    assert abs(present.mean() if len(present) else 0.0) < 1e-3
    assert (present.std() if len(present) else 0.0) < 1.001


def test_a_flag_is_0_or_1_and_0_where_missing() -> None:
    assert only("new").dense.tolist() == [[1], [0], [0]]


def test_an_embedding_is_kept_and_0_where_missing() -> None:
    found = only("image")
    assert found.dense.tolist() == [[0, 0], [0, 0], [1, 2]]
    assert found.dense_names == ("image_0", "image_1")


def test_alike_texts_are_near_and_a_missing_text_is_0() -> None:
    texts = ["ships on the sea", "a sea of ships", "a bakery in paris", "paris and its bakery"]
    rows = [{"plot": text} for text in texts * 5] + [{}]
    dense = only("plot", rows, rows).dense
    assert not dense[-1].any()
    distance = ((dense[:4, None] - dense[None, :4]) ** 2).sum(2)
    assert distance[0, 1] < distance[0, 2]
    assert distance[2, 3] < distance[1, 3]


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("texts", [[None, None], ["a", "I"], ["same words"] * 3, ["one"]])
def test_texts_that_tell_nothing_are_no_error(texts: list[str | None]) -> None:
    rows = [{"plot": text} for text in texts]
    dense = only("plot", rows, rows).dense
    assert len(dense) == len(texts)
    assert np.abs(dense).max(initial=0) < 10


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_with_no_value_at_all_is_no_error(column: str) -> None:
    rows: list[dict[str, Any]] = [{}, {}]
    found = only(column, rows, rows)
    assert len(found.dense) == 2
    assert np.isfinite(found.dense).all()
    assert not len(found.categories.values)


def test_values_never_seen_count_as_missing() -> None:
    new = [{"colour": "green", "tags": ["a", "z"], "plot": "unheard", "year": 2050, "new": True}]
    found = Encoder.fit(table(ROWS), COLUMNS).encode(table(new))
    assert [found.vocabulary[code] for code in found.categories.values] == ["tags=a"]
    assert np.isfinite(found.dense).all()


def equal(one: Features, other: Features) -> None:
    np.testing.assert_array_equal(one.dense, other.dense)
    np.testing.assert_array_equal(one.categories.values, other.categories.values)
    np.testing.assert_array_equal(one.categories.offsets, other.categories.offsets)
    assert (one.dense_names, one.vocabulary) == (other.dense_names, other.vocabulary)


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.none() | st.sampled_from(["red", "blue"]) | st.text(max_size=3),
        "tags": st.none() | st.lists(st.sampled_from("abcdef"), unique=True, max_size=4),
        "year": st.none() | st.floats(-1e6, 1e6, width=32),
        "new": st.none() | st.booleans(),
        "plot": st.none() | st.sampled_from([row["plot"] for row in ROWS]),
        "image": st.none() | st.tuples(*[st.floats(-9, 9, width=32)] * 2),
    },
)


@given(st.lists(VALUES, min_size=1, max_size=8), st.lists(VALUES, max_size=8))
def test_json_gives_back_the_same_encoder(fitted: list[Any], others: list[Any]) -> None:
    encoder = Encoder.fit(table([*ROWS, *fitted]), COLUMNS)
    again = Encoder.from_json(encoder.to_json())
    assert json.loads(encoder.to_json()) == json.loads(again.to_json())
    equal(encoder.encode(table(others)), again.encode(table(others)))


@given(st.lists(VALUES, min_size=2, max_size=8))
def test_a_row_alone_is_encoded_as_among_others(rows: list[Any]) -> None:
    encoder = Encoder.fit(table(ROWS), COLUMNS)
    together = encoder.encode(table(rows))
    for place, row in enumerate(rows):
        alone = encoder.encode(table([row]))
        np.testing.assert_allclose(alone.dense[0], together.dense[place], atol=1e-6)
        own = together.categories.take(np.array([place]))
        assert alone.categories.values.tolist() == own.values.tolist()


def test_encode_gives_every_id_its_own_attributes() -> None:
    """Ids come from all tables, in another order than their rows; some have no row at all."""
    events = {"user_id": ["b", "a", "b"], "item_id": [30, 10, 20], "timestamp": [3, 1, 2]}
    items = {"item_id": [40, 10, 30], "title": ["D", "A", "C"], "colour": ["d", "a", "c"]}
    users = {"user_id": ["c", "b"], "year": pa.array([1.0, 3.0], pa.float32())}
    weights = pa.array([1, 2, 3], pa.float32())
    tables = Tables(
        pa.table(events).append_column("weight", weights),
        pa.table(items),
        pa.table(users),
        {"colour": "category"},
        {"year": "number"},
    )
    data = encode(tables)
    assert (data.users.ids.to_pylist(), data.items.ids.to_pylist()) == (
        ["a", "b", "c"],
        [10, 20, 30, 40],
    )
    assert data.titles.to_pylist() == ["A", None, "C", "D"]
    colours = data.item_features
    assert colours.categories.lengths.tolist() == [1, 0, 1, 1]
    assert [colours.vocabulary[c] for c in colours.categories.values] == [
        "colour=a",
        "colour=c",
        "colour=d",
    ]
    assert data.user_features.dense.tolist() == [[0], [1], [-1]]
    found = data.interactions
    assert found.user.tolist() == [0, 1, 1]
    assert found.item.tolist() == [0, 1, 2]
    assert (found.timestamp.tolist(), found.weight.tolist()) == ([1, 2, 3], [2, 3, 1])


def test_no_attributes_are_no_columns() -> None:
    found = Encoder.fit(table(ROWS), {}).encode(table(ROWS))
    equal(found, Features.empty(3))
    assert isinstance(found.categories, Ragged)


def digest(order: list[int], **changes: Any) -> str:
    """Encode three items that are read in an order, the first with changes."""
    rows = [{**ROWS[0], **changes}, *ROWS[1:]]
    items = table([rows[n] for n in order]).append_column("item_id", pa.array(order))
    items = items.append_column("title", pa.nulls(3, pa.string()))
    events = {"user_id": [1], "item_id": [0], "timestamp": [1], "weight": [1.0]}
    return encode(
        Tables(pa.table(events), items, pa.table({"user_id": [1]}), COLUMNS, {})
    ).attributes


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "blue"},
        {"tags": ["b"]},
        {"year": 1991},
        {"year": None},
        {"new": False},
        {"plot": "a ship at a sea"},
        {"image": [1.0, 2.0]},
    ],
    ids=str,
)
def test_data_is_known_again_by_what_was_read(changes: dict[str, Any]) -> None:
    assert digest([0, 1, 2]) == digest([2, 0, 1]) != digest([0, 1, 2], **changes)

"""Ids are found where they lie, without a dict of them."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from train.data.ids import IdMap

integers = st.integers(-(2**63), 2**63 - 1)
anything = st.one_of(
    integers, st.integers(-(2**70), 2**70), st.text(max_size=5), st.booleans(), st.none()
)


def index_of(known: list[Any], asked: Any) -> int:
    """By the definition: where the same value of the same type is."""
    places = [at for at, one in enumerate(known) if type(one) is type(asked) and one == asked]
    return places[0] if places else -1


@given(st.sets(integers, max_size=20), st.lists(anything, max_size=20))
def test_integers_are_found(known: set[int], asked: list[Any]) -> None:
    ids = sorted(known)
    found = IdMap(pa.array(ids, pa.int64())).index([*asked, *ids])
    assert found.tolist() == [index_of(ids, one) for one in [*asked, *ids]]
    assert found.dtype == np.int32


@given(st.sets(st.text(max_size=5), max_size=20), st.lists(anything, max_size=20))
def test_texts_are_found(known: set[str], asked: list[Any]) -> None:
    # As Arrow sorts them: by the bytes of UTF-8, which is by code points.
    array = pa.array(sorted(known), pa.string())
    ids = IdMap.of(pa.chunked_array([array])).ids.to_pylist()
    assert ids == sorted(known)
    found = IdMap(array).index([*asked, *ids])
    assert found.tolist() == [index_of(ids, one) for one in [*asked, *ids]]


def test_what_is_found_is_named_again() -> None:
    ids = IdMap(pa.array([3, 5, 8]))
    assert ids.external(ids.index([8, 3])) == [8, 3]
    assert len(ids) == 3 and ids.is_integer

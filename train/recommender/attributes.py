"""Attributes of users that come with a request, encoded as those of the table were."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.encoders import Encoder
from train.recommender.filters import RuleError
from train.recommender.recommender import Recommender

# Of one value in a request: texts and lists are no longer.
LONGEST = 10_000
# Standard deviations from the mean, or a number of an embedding: beyond it scores overflow.
LARGEST = 1e6


def attributes_of(
    recommender: Recommender, user: Array, given: Sequence[Mapping[str, Any]]
) -> tuple[Features, Array] | tuple[None, None]:
    """Return the attributes of users, and who has others than the stored ones, bool `[B]`.

    A column that a request does not give is that of the known user, and missing for a new one.

    Args:
        recommender: with the stored attributes and the encoder of the table.
        user: int32 `[B]`, -1 for an unknown one.
        given: columns and values of each.

    Returns:
        None where nobody has others than the stored ones.

    Raises:
        RuleError: see `check_attributes`.
    """
    described = np.zeros(len(user), dtype=bool)
    if not any(given):
        return None, None
    rows = []
    for at, (index, values) in enumerate(zip(user.tolist(), given, strict=True)):
        own = recommender.user_features.take(np.array([index]))
        if values:
            changed = _with(recommender, own if index >= 0 else None, values)
            described[at] = index < 0 or not _equal(changed, own)
            own = changed
        rows.append(own)
    return (_joined(rows), described) if described.any() else (None, None)


def check_attributes(recommender: Recommender, given: Mapping[str, Any]) -> None:
    """Check that attributes are some that what is served reads.

    Raises:
        RuleError: they are not, there is no such column, or its values are others.
    """
    if given:
        _table(_encoder(recommender, given), given)


def _with(recommender: Recommender, stored: Features | None, given: Mapping[str, Any]) -> Features:
    encoder = _encoder(recommender, given)
    own = encoder.encode(_table(encoder, given))
    return own if stored is None else encoder.changed(stored, own, given.keys())


def _encoder(recommender: Recommender, given: Mapping[str, Any]) -> Encoder:
    encoder = recommender.user_encoder
    if encoder is None or not encoder.columns:
        raise RuleError(("user",), "this bundle has no attributes of users", list(given))
    if not recommender.reads_attributes:
        served = f"what this bundle serves ({recommender.served})"
        raise RuleError(("user",), f"{served} reads no attributes of users", list(given))
    for name in given:
        if name not in encoder.columns:
            there = ", ".join(f"{of} ({state['kind']})" for of, state in encoder.columns.items())
            raise RuleError(("user", name), f"unknown column; there are: {there}", given[name])
    return encoder


def _table(encoder: Encoder, given: Mapping[str, Any]) -> pa.Table:
    """Return a row of the canonical table, missing where nothing is given."""
    columns = {}
    for name, state in encoder.columns.items():
        value, (kind, words, right) = given.get(name), KINDS[state["kind"]](state)
        if value is not None and not right(value):
            message = f"{name} is a column of kind {state['kind']}: expected {words}"
            raise RuleError(("user", name), message, value)
        columns[name] = pa.array([_plain(value, state["kind"])], kind)
    return pa.table(columns) if columns else pa.table({"": [None]})


def _plain(value: Any, kind: str) -> Any:
    if value is None or kind not in ("category", "categories"):
        return value
    return _category(value) if kind == "category" else [_category(one) for one in value]


def _category(value: Any) -> str:
    return str(value).strip()


def _is_category(value: Any) -> bool:
    return type(value) in (str, int) and len(str(value)) <= LONGEST


def _is_number(value: Any, mean: float = 0.0, scale: float = 1.0) -> bool:
    # Whole numbers of JSON have any size, and no float is as large as some.
    fits = type(value) in (int, float) and abs(value) < sys.float_info.max
    return fits and abs(value - mean) <= LARGEST * scale


def _is_list(value: Any, right: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and len(value) <= LONGEST and all(map(right, value))


Kind = tuple[pa.DataType, str, Callable[[Any], bool]]
"""Type of a canonical column, what a request gives for it in words, and whether it does."""

KINDS: Mapping[str, Callable[[Mapping[str, Any]], Kind]] = {
    "category": lambda state: (pa.string(), "a string", _is_category),
    "categories": lambda state: (
        pa.list_(pa.string()),
        "a list of strings",
        lambda value: _is_list(value, _is_category),
    ),
    "number": lambda state: (
        pa.float32(),
        "a number, not beyond a million standard deviations from the mean",
        lambda value: _is_number(value, state["mean"], state["scale"]),
    ),
    "flag": lambda state: (pa.bool_(), "true or false", lambda value: type(value) is bool),
    "text": lambda state: (
        pa.string(),
        "a text",
        lambda value: type(value) is str and len(value) <= LONGEST,
    ),
    "embedding": lambda state: (
        pa.list_(pa.float32(), state["width"]),
        f"a list of {state['width']} numbers",
        lambda value: _is_list(value, _is_number) and len(value) == state["width"],
    ),
}


def _equal(one: Features, other: Features) -> bool:
    same = np.array_equal(one.dense, other.dense)
    return same and np.array_equal(one.categories.values, other.categories.values)


def _joined(rows: Sequence[Features]) -> Features:
    categories = Ragged.from_rows([row.categories.values for row in rows])
    dense = np.concatenate([row.dense for row in rows])
    return Features(dense, rows[0].dense_names, categories, rows[0].vocabulary)

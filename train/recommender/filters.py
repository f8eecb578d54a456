"""Filters over the columns of items: a small JSON grammar, checked against the bundle's columns.

    {"and": [{"brand": {"in": ["a"]}}, {"price": {"lt": 20}}, {"not": {"tags": {"any": ["x"]}}}]}

A condition of several operators, and an object of several columns, hold where all of them do. An
item without a value meets no condition on it but `{"exists": false}`.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from train.core.ragged import Array
from train.data.columns import Columns

# Objects within each other: nobody's filter needs as many.
MAX_DEPTH = 20
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "category": ("eq", "ne", "in", "exists"),
    "categories": ("any", "all", "exists"),
    "number": ("eq", "ne", "lt", "le", "gt", "ge", "in", "exists"),
    "flag": ("eq", "ne", "exists"),
    "text": ("exists",),
}
"""The operators on each kind of column."""

_COMPARE = {
    "eq": pc.equal,
    "ne": pc.not_equal,
    "lt": pc.less,
    "le": pc.less_equal,
    "gt": pc.greater,
    "ge": pc.greater_equal,
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "category": (str,),
    "categories": (str,),
    "number": (int, float),
    "flag": (bool,),
}
_WORDS = {"category": "a string", "categories": "a string", "number": "a number", "flag": "a bool"}


class RuleError(ValueError):
    """A rule that the bundle cannot follow.

    Attributes:
        place: of the mistake in the request, keys and positions.
        given: what stands there.
    """

    def __init__(self, place: tuple[str | int, ...], message: str, given: Any = None) -> None:
        super().__init__(message)
        self.place, self.given = place, given

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.place))}: {self.args[0]}"


def matching(columns: Columns, filter: Any, place: tuple[str | int, ...] = ("filter",)) -> Array:
    """Return which items a filter lets pass, bool `[I]`.

    Args:
        columns: of the items.
        filter: a filter as JSON values.
        place: of the filter in the request, for messages.

    Raises:
        RuleError: it names a column, an operator or a value that it cannot.
    """
    if len(place) > 2 * MAX_DEPTH:
        raise RuleError(place[:2], f"expected at most {MAX_DEPTH} filters within each other")
    if not isinstance(filter, Mapping) or not filter:
        raise RuleError(place, 'expected an object such as {"price": {"lt": 20}}', filter)
    parts = [_part(columns, key, of, (*place, key)) for key, of in filter.items()]
    every: Array = np.logical_and.reduce(parts)
    return every


def _part(columns: Columns, key: str, of: Any, place: tuple[str | int, ...]) -> Array:
    if key == "not":
        return ~matching(columns, of, place)
    if key in ("and", "or"):
        if not isinstance(of, list) or not of:
            raise RuleError(place, "expected a list of one filter or more", of)
        parts = [matching(columns, one, (*place, at)) for at, one in enumerate(of)]
        joined: Array = (np.logical_and if key == "and" else np.logical_or).reduce(parts)
        return joined
    kind = kind_of(columns, key, place)
    if not isinstance(of, Mapping) or not of:
        raise RuleError(place, f"expected an object such as {_example(kind)}", of)
    conditions = [_condition(columns, key, name, value, place) for name, value in of.items()]
    every: Array = np.logical_and.reduce(conditions)
    return every


def kind_of(columns: Columns, name: str, place: tuple[str | int, ...]) -> str:
    """Return the kind of a column.

    Raises:
        RuleError: there is none of this name.
    """
    if name in columns.kinds:
        return columns.kinds[name]
    if not columns.kinds:
        raise RuleError(place, "this bundle has no columns of items to filter by", name)
    near = difflib.get_close_matches(name, columns.kinds, n=1)
    guess = f"; did you mean {near[0]}?" if near else ";"
    raise RuleError(
        place, f"unknown column {name!r}{guess} available: {', '.join(columns.kinds)}", name
    )


def _condition(
    columns: Columns, name: str, operator: str, value: Any, place: tuple[str | int, ...]
) -> Array:
    kind, place = columns.kinds[name], (*place, operator)
    if operator not in OPERATORS[kind]:
        available = ", ".join(OPERATORS[kind])
        raise RuleError(
            place, f"unknown operator {operator!r} for {name}, a {kind}; available: {available}"
        )
    column = columns.values[name]
    if operator == "exists":
        if not isinstance(value, bool):
            raise RuleError(place, "expected true or false", value)
        valid: Array = pc.is_valid(column).to_numpy(zero_copy_only=False)
        return valid if value else ~valid
    if operator in ("in", "any", "all"):
        wanted = _values(name, kind, value, place)
        if operator == "all":
            return np.asarray(np.logical_and.reduce([columns.has_any(name, [w]) for w in wanted]))
        if kind == "number":
            equal = [_compared(column, "eq", one) for one in wanted]
            return np.asarray(np.logical_or.reduce(equal))
        return columns.has_any(name, wanted)
    return _compared(column, operator, _value(name, kind, value, place))


def _compared(column: Any, operator: str, value: Any) -> Array:
    # Numbers are compared as doubles: 0.1 of a float32 column is what was read as 0.1.
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = np.float32(value) if column.type.bit_width == 32 else float(value)
    found = pc.fill_null(_COMPARE[operator](column, value), False)
    result: Array = found.to_numpy(zero_copy_only=False)
    return result


def _values(name: str, kind: str, given: Any, place: tuple[str | int, ...]) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise RuleError(place, f"expected a list of one value or more for {name}, a {kind}", given)
    return [_value(name, kind, one, (*place, at)) for at, one in enumerate(given)]


def _value(name: str, kind: str, given: Any, place: tuple[str | int, ...]) -> Any:
    is_flag = isinstance(given, bool)
    if not isinstance(given, _TYPES[kind]) or is_flag != (kind == "flag"):
        raise RuleError(place, f"expected {_WORDS[kind]} for {name}, a {kind}", given)
    return given


def _example(kind: str) -> str:
    return {
        "category": '{"in": ["a"]}',
        "categories": '{"any": ["a"]}',
        "number": '{"lt": 20}',
        "flag": '{"eq": true}',
        "text": '{"exists": true}',
    }[kind]

"""Arrays of a bundle against each other: a file that was crafted or mixed up is found here.

Beyond these lie reads out of bounds, and answers that are wrong without a word.

Shapes: U users, I items.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.recommender.recommender import Recommender


def check_recommender(recommender: Recommender) -> None:
    """Check that lengths, ranges and offsets fit, and that no vector holds NaN or infinity.

    Raises:
        ValueError: they do not; the message names the array.
    """
    users, items = len(recommender.users), len(recommender.items)
    _rows("user_vectors", recommender.user_vectors, users)
    _rows("item_vectors", recommender.item_vectors, items)
    widths = recommender.user_vectors.shape[1], recommender.item_vectors.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"user and item vectors need one width, got {widths[0]} and {widths[1]}")
    for name in ("user_vectors", "item_vectors"):
        _finite(name, getattr(recommender, name))
    _rows("catalogue", recommender.catalogue, items)
    _ragged("histories", recommender.histories, users, items)
    if recommender.hidden is not None:
        _ragged("hidden", recommender.hidden, users, items)
    _features("user_features", recommender.user_features, users)
    _features("item_features", recommender.item_features, items)
    if recommender.titles is not None:
        _rows("titles", recommender.titles, items)
    for name, values in recommender.columns.values.items():
        _rows(f"column {name}", values, items)
    _statistics(recommender, users, items)
    for name, source in recommender.sources.items():
        _SOURCES[source.shape](f"source {name}", source.arrays(), users, items)


def _statistics(recommender: Recommender, users: int, items: int) -> None:
    known = recommender.statistics
    for name in ("item_count", "item_first", "item_last", "neighbours", "neighbour_weights"):
        _rows(f"statistics.{name}", getattr(known, name), items)
    for name in ("user_count", "user_last"):
        _rows(f"statistics.{name}", getattr(known, name), users)
    if known.item_recent.shape != (len(known.recent_days), items):
        raise ValueError(f"statistics.item_recent: shape {known.item_recent.shape}")
    _within("statistics.neighbours", known.neighbours, items, -1)
    _finite("statistics.neighbour_weights", known.neighbour_weights)


def _features(name: str, features: Features, rows: int) -> None:
    _rows(name, features.dense, rows)
    _finite(name, features.dense)
    if features.dense.shape[1] != len(features.dense_names):
        raise ValueError(f"{name}: {features.dense.shape[1]} columns, and names of another number")
    _ragged(f"{name}.categories", features.categories, rows, len(features.vocabulary))


def _vectors(name: str, of: Mapping[str, Array], _: int, items: int) -> None:
    _rows(f"{name}.items", of["items"], items)
    _rows(f"{name}.catalogue", of["catalogue"], items)
    width = of["items"].shape[1]
    if of["folding"].shape != (width, width):
        raise ValueError(f"{name}.folding: expected [{width}, {width}], got {of['folding'].shape}")
    for key in ("items", "folding", "confidence"):
        _finite(f"{name}.{key}", of[key])


def _weights(name: str, of: Mapping[str, Array], _: int, items: int) -> None:
    _rows(f"{name}.catalogue", of["catalogue"], items)
    _ragged(f"{name}.columns", Ragged(of["columns"], of["offsets"]), items, items)
    _rows(f"{name}.values", of["values"], len(of["columns"]))
    _finite(f"{name}.values", of["values"])


def _list(name: str, of: Mapping[str, Array], _: int, items: int) -> None:
    _rows(f"{name}.scores", of["scores"], items)
    _rows(f"{name}.catalogue", of["catalogue"], items)
    _finite(f"{name}.scores", of["scores"])


def _grouped(name: str, of: Mapping[str, Array], users: int, items: int) -> None:
    groups = len(of["rest"])
    _ragged(f"{name}.columns", Ragged(of["columns"], of["offsets"]), groups, items)
    _rows(f"{name}.values", of["values"], len(of["columns"]))
    _rows(f"{name}.overall", of["overall"], items)
    _rows(f"{name}.catalogue", of["catalogue"], items)
    members = items if of["of_history"] else users
    _ragged(f"{name}.groups", Ragged(of["groups"], of["members"]), members, groups)
    for key in ("values", "rest", "overall"):
        _finite(f"{name}.{key}", of[key])


def _repeats(name: str, of: Mapping[str, Array], users: int, items: int) -> None:
    _ragged(f"{name}.items", Ragged(of["items"], of["offsets"]), users, items)
    _rows(f"{name}.counts", of["counts"], len(of["items"]))
    _rows(f"{name}.lengths", of["lengths"], users)
    _rows(f"{name}.popularity", of["popularity"], items)
    _rows(f"{name}.catalogue", of["catalogue"], items)
    _finite(f"{name}.counts", of["counts"])


_SOURCES: Mapping[str, Any] = {
    "vectors": _vectors,
    "item_to_item": _weights,
    "list": _list,
    "grouped_list": _grouped,
    "repeats": _repeats,
}


def _rows(name: str, array: Any, count: int) -> None:
    if len(array) != count:
        raise ValueError(f"{name} needs {count} rows, got {len(array)}")


def _finite(name: str, array: Array) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")


def _within(name: str, values: Array, count: int, least: int = 0) -> None:
    if len(values) and (values.min() < least or values.max() >= count):
        raise ValueError(
            f"{name}: expected values from {least} to {count - 1}, got {values.min()} to "
            f"{values.max()}"
        )


def _ragged(name: str, ragged: Ragged, rows: int, count: int) -> None:
    offsets = ragged.offsets
    ends = len(offsets) and offsets[0] == 0 and offsets[-1] == len(ragged.values)
    if len(offsets) != rows + 1 or not ends or (np.diff(offsets) < 0).any():
        raise ValueError(f"{name}: offsets are not those of {rows} rows")
    _within(name, ragged.values, count)

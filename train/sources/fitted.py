"""Fitted sources as arrays of a bundle, and from them."""

from collections.abc import Mapping
from dataclasses import fields

from train.core.ragged import Array
from train.sources.base import Source
from train.sources.grouped_lists import GroupedListSource
from train.sources.item_to_item import ItemToItemSource
from train.sources.lists import ListSource
from train.sources.repeats import RepeatSource
from train.sources.vectors import VectorSource

Shape = (
    type[VectorSource]
    | type[ItemToItemSource]
    | type[ListSource]
    | type[GroupedListSource]
    | type[RepeatSource]
)
KINDS: tuple[Shape, ...] = (
    VectorSource,
    ItemToItemSource,
    ListSource,
    GroupedListSource,
    RepeatSource,
)
SHAPES: Mapping[str, Shape] = {kind.shape: kind for kind in KINDS}


def from_arrays(name: str, shape: str, arrays: Mapping[str, Array]) -> Source:
    """Rebuild a source from its arrays.

    Args:
        name: of the source, for messages.
        shape: a key of `SHAPES`.
        arrays: as `Source.arrays` gives them.

    Raises:
        ValueError: there is no such shape, or arrays are missing or too many.
    """
    if shape not in SHAPES:
        available = ", ".join(sorted(SHAPES))
        raise ValueError(f"source {name}: unknown shape {shape!r}; available: {available}")
    expected = {field.name for field in fields(SHAPES[shape])}
    if set(arrays) != expected:
        raise ValueError(
            f"source {name} of shape {shape} needs the arrays {', '.join(sorted(expected))}, got "
            f"{', '.join(sorted(arrays))}"
        )
    return SHAPES[shape](**arrays)

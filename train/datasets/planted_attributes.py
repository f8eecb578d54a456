"""Attributes that tell the planted taste of an item or a user with a certain probability."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.core.schema import Kind
from train.datasets.planted import PlantedWorld

if TYPE_CHECKING:
    from train.datasets.generated import Generated

ITEM_COLUMNS: dict[str, Kind] = {
    "category": "category",
    "tags": "categories",
    "length": "number",
    "year": "number",
    "premium": "flag",
    "description": "text",
}
USER_COLUMNS: dict[str, Kind] = {
    "segment": "category",
    "interests": "categories",
    "age": "number",
    "subscriber": "flag",
}
_ADJECTIVES = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "grove", "harbor", "iris")
_NOUNS = ("tale", "song", "map", "letter", "garden", "engine", "winter", "voyage", "mirror")


def _told(settings: "Generated", random: np.random.Generator, truth: Array, kinds: int) -> Array:
    """Return the truth with probability `told`, else any of the kinds."""
    return np.where(
        random.random(len(truth)) < settings.told, truth, random.integers(0, kinds, len(truth))
    )


def item_attributes(
    settings: "Generated", world: PlantedWorld, random: np.random.Generator
) -> dict[str, pa.Array]:
    """Draw title and attributes of the items, columns `[I]` by name."""
    families = (settings.tastes + 1) // 2
    family = _told(settings, random, world.taste // 2, families)
    told = _told(settings, random, world.taste, settings.tastes)
    noun = random.integers(0, len(_NOUNS), settings.items)
    number = pa.array(np.arange(1, settings.items + 1)).cast(pa.string())
    title = _joined(_name(told), pa.array(_NOUNS).take(pa.array(noun)), number)
    length = 60.0 + 10 * (world.taste % 7) + random.normal(0, 15, settings.items)
    columns = {
        "title": title,
        "category": _named("family", family),
        "tags": _lists("tag", told, random.integers(0, settings.tastes, settings.items)),
        "length": pa.array(length, pa.float32(), mask=random.random(settings.items) < 0.05),
        "year": pa.array(2020 - random.geometric(0.1, settings.items), pa.float32()),
        "premium": pa.array(random.random(settings.items) < 0.1 + 0.5 * (world.taste % 2)),
        "description": _joined(
            "one of the", _name(told), "kind, for", _name(family * 5 + 3), "days"
        ),
    }
    return columns | _image(settings, world, random)


def _image(
    settings: "Generated", world: PlantedWorld, random: np.random.Generator
) -> dict[str, pa.Array]:
    if not settings.embedding:
        return {}
    centres = random.normal(size=(settings.tastes, settings.embedding))
    noise = random.normal(size=(settings.items, settings.embedding)) / max(settings.told, 0.05)
    flat = (centres[world.taste] + noise).astype(np.float32).ravel()
    return {"image": pa.FixedSizeListArray.from_arrays(pa.array(flat), settings.embedding)}


def user_attributes(
    settings: "Generated", world: PlantedWorld, random: np.random.Generator
) -> dict[str, pa.Array]:
    """Draw the attributes of the users, columns `[U]` by name."""
    first, last = world.user_tastes[:, 0], world.user_tastes[:, -1]
    age = np.clip(20.0 + 3 * (first % 10) + random.normal(0, 8, settings.users), 14, 99)
    return {
        "segment": _named(
            "family", _told(settings, random, first // 2, (settings.tastes + 1) // 2)
        ),
        "interests": _lists(
            "tag", *(_told(settings, random, t, settings.tastes) for t in (first, last))
        ),
        "age": pa.array(age.round(), pa.float32(), mask=random.random(settings.users) < 0.05),
        "subscriber": pa.array(random.random(settings.users) < 0.2 + 0.4 * (first % 2)),
    }


def _named(word: str, codes: Array) -> pa.Array:
    return pc.binary_join_element_wise(word, pa.array(codes).cast(pa.string()), " ")


def _name(codes: Array) -> pa.Array:
    """Return a word for each code; codes beyond the words get a number with it."""
    words = pa.array(_ADJECTIVES).take(pa.array(codes % len(_ADJECTIVES)))
    return pc.binary_join_element_wise(
        words, pa.array(codes // len(_ADJECTIVES)).cast(pa.string()), ""
    )


def _joined(*words: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*words, " ")


def _lists(word: str, *columns: Array) -> pa.Array:
    """Return for each row the list of the different names of its codes."""
    codes = np.sort(np.column_stack(columns), axis=1)
    kept = np.column_stack([np.ones(len(codes), bool), np.diff(codes, axis=1) > 0])
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _named(word, codes[kept]))

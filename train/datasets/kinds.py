"""Kinds of events: what each weighs, which ones the test counts, and which ones hide an item."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.datasets.columns import Column, fail
from train.datasets.convert import category

logger = logging.getLogger(__name__)
SHOWN = 10  # kinds of events in an error, at most


@dataclass(frozen=True)
class Kinds:
    """Kinds of events by their names in a column.

    Attributes:
        column: their names are there.
        weights: of each: above 0 for an interaction, 0 for one that is left out, below 0 for one
            that hides the item from the user. None at all where all interactions are alike.
        tested: those that the test counts; none for all that are above 0.
    """

    column: str = "event"
    weights: Mapping[str, float] = field(default_factory=dict)
    tested: Collection[str] = ()

    def read(self, column: Column) -> tuple[Array, Array]:
        """Return weights, float64 `[N]`, and roles, int8 `[N]`; see `Interactions`.

        Raises:
            ValueError: an event is missing or has no weight, or one with a weight never occurs.
        """
        values = category(column).combine_chunks()
        if values.null_count:
            fail(column, pc.is_null(values), "an event in every row", "Fill these rows in")
        names = values.dictionary_encode()
        found, counts = names.dictionary.to_pylist(), np.bincount(names.indices.to_numpy())
        self._check(column, dict(zip(found, counts.tolist(), strict=True)))
        weight = np.array([self.weights[name] for name in found])
        tested = self.tested or [name for name in found if self.weights[name] > 0]
        role = np.where(weight < 0, -1, np.isin(found, list(tested)))
        logger.info(
            "%s: %s",
            column.where,
            ", ".join(
                f"{name} {count:,} (weight {self.weights[name]:g})"
                for name, count in zip(found, counts, strict=True)
            ),
        )
        rows = names.indices.to_numpy()
        return weight[rows], role.astype(np.int8)[rows]

    def _check(self, column: Column, counts: Mapping[str, int]) -> None:
        lacking = [name for name in counts if name not in self.weights]
        if lacking:
            first = ", ".join(f"{name!r} ({counts[name]:,} rows)" for name in lacking[:SHOWN])
            raise ValueError(
                f"{column.where}: expected events with a weight in data.events "
                f"({', '.join(self.weights)}); {len(lacking)} have none: {first}. Give each one: 0 "
                "leaves it out, one below 0 hides the item from the user"
            )
        absent = [name for name in self.weights if name not in counts]
        if absent:
            raise ValueError(
                f"{column.where}: data.events has weights of {', '.join(map(repr, absent))}, which "
                f"never occur; there are {', '.join(map(repr, list(counts)[:SHOWN]))}. Correct the "
                "names, or take them out"
            )


def with_kinds(table: pa.Table, kinds: Kinds, column: Column) -> pa.Table:
    """Return interactions with weights and roles of their events, without those that weigh 0.

    Args:
        table: canonical columns; the weight of an event is multiplied by that of its row.
        kinds: weights and roles.
        column: the events, a row each.
    """
    weight, role = kinds.read(column)
    # A negative event hides an item however much it weighs.
    product = np.where(role < 0, weight, weight * table["weight"].to_numpy())
    place = table.column_names.index("weight")
    table = table.set_column(place, "weight", pa.array(product))
    return table.append_column("role", pa.array(role)).filter(pa.array(weight != 0))

"""Columns of the items as they were declared, for filters and for answers.

Shapes: I items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.core.schema import Kind

# Kinds whose values say something to a request: an embedding's numbers do not.
KEPT = ("category", "categories", "number", "flag", "text")


@dataclass(frozen=True)
class Columns:
    """Attributes of all items, not encoded.

    Attributes:
        kinds: of each column.
        values: of each column, `[I]`, null where missing: strings, lists of strings, numbers,
            booleans.
    """

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    values: Mapping[str, pa.Array] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pa.Table, kinds: Mapping[str, Kind]) -> "Columns":
        """Return the columns of a table with a row an item."""
        kept = {name: kind for name, kind in kinds.items() if kind in KEPT}
        return cls(kept, {name: table[name].combine_chunks() for name in kept})

    def __len__(self) -> int:
        return len(self.kinds)

    def has_any(self, name: str, wanted: list[str]) -> Array:
        """Return which items have one of the categories in a column, bool `[I]`."""
        rows, values = self._flat[name]
        found = np.zeros(len(self.values[name]), dtype=bool)
        hits = pc.is_in(values, value_set=pa.array(wanted, values.type))
        found[rows[hits.to_numpy(zero_copy_only=False)]] = True
        return found

    def of_items(self, name: str, items: Array) -> list[Any]:
        """Return the values of items `[n]` as Python values."""
        return list(self.values[name].take(pa.array(items)).to_pylist())

    @cached_property
    def _flat(self) -> dict[str, tuple[Array, pa.Array]]:
        """The item of each single category, and the category, of columns of categories."""
        flat = {}
        for name, kind in self.kinds.items():
            if kind == "categories":
                rows = pc.list_parent_indices(self.values[name]).to_numpy()
                flat[name] = rows, pc.list_flatten(self.values[name])
            elif kind == "category":
                flat[name] = np.arange(len(self.values[name])), self.values[name]
        return flat

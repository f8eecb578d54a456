"""External ids and their indices."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array


@dataclass(frozen=True)
class IdMap:
    """External ids and their indices; the position of an id in the sorted `ids` is its index.

    Attributes:
        ids: int64 or string `[n]`, ascending, so that ties by index are ties by id.
    """

    ids: pa.Array

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_integer(self) -> bool:
        """Whether ids are integers, else they are strings."""
        return bool(pa.types.is_integer(self.ids.type))

    @cached_property
    def _index(self) -> dict[Any, int]:
        return {value: index for index, value in enumerate(self.ids.to_pylist())}

    def index(self, ids: Iterable[Any]) -> Array:
        """Return the indices of external ids, int32 `[m]`; -1 where unknown or of another type."""
        if isinstance(ids, pa.Array | pa.ChunkedArray) and ids.type == self.ids.type:
            index = pc.fill_null(pc.index_in(ids, value_set=self.ids), -1)
            return np.asarray(index.to_numpy()).astype(np.int32)
        # As Python values, whose types tell an integer from a flag, a float or a text.
        if isinstance(ids, np.ndarray):
            ids = ids.tolist()
        elif isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = ids.to_pylist()
        kind = int if self.is_integer else str
        lookup = self._index.get
        return np.array([lookup(i, -1) if type(i) is kind else -1 for i in ids], dtype=np.int32)

    def external(self, index: Array) -> list[Any]:
        """Return the external ids of indices `[m]`, as Python integers or strings."""
        return list(self.ids.take(pa.array(index)).to_pylist())

    @classmethod
    def of(cls, *columns: pa.ChunkedArray) -> "IdMap":
        """Build from every distinct id of the columns."""
        ids = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
        distinct = pc.unique(ids)
        return cls(distinct.take(pc.sort_indices(distinct)))

"""External ids and their indices."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.coded import coded
from train.core.ragged import Array


class _Texts(Sequence[str]):
    """An array of texts, one of which is a Python string when it is looked at."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, at: Any) -> Any:
        return self._ids[at].as_py()


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

    def index(self, ids: Iterable[Any]) -> Array:
        """Return the indices of external ids, int32 `[m]`; -1 where unknown or of another type."""
        if isinstance(ids, pa.ChunkedArray) and pa.types.is_dictionary(ids.type):
            values, codes = coded(ids)
            return np.append(self.index(values), np.int32(-1))[codes]
        if isinstance(ids, pa.Array | pa.ChunkedArray) and ids.type == self.ids.type:
            index = pc.fill_null(pc.index_in(ids, value_set=self.ids), -1)
            return np.asarray(index.to_numpy()).astype(np.int32)
        # As Python values, whose types tell an integer from a flag, a float or a text.
        if isinstance(ids, np.ndarray):
            ids = ids.tolist()
        elif isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = ids.to_pylist()
        asked = list(ids)
        return self._of_integers(asked) if self.is_integer else self._of_texts(asked)

    def _of_integers(self, ids: list[Any]) -> Array:
        known = self.ids.to_numpy()
        # Of those beyond 64 bits, none is known.
        fits = np.array([type(i) is int and -(2**63) <= i < 2**63 for i in ids], dtype=bool)
        asked = np.array([i if ok else 0 for i, ok in zip(ids, fits, strict=True)], np.int64)
        place = np.minimum(np.searchsorted(known, asked), max(len(known) - 1, 0))
        found = fits & (known[place] == asked) if len(known) else np.zeros_like(fits)
        return np.where(found, place, -1).astype(np.int32)

    def _of_texts(self, ids: list[Any]) -> Array:
        # A search in the sorted texts as they lie in the file: a dict of them takes more memory
        # than all else that is known of a user.
        known, out = _Texts(self.ids), np.full(len(ids), -1, dtype=np.int32)
        for at, text in enumerate(ids):
            if type(text) is not str:
                continue
            place = bisect_left(known, text)
            if place < len(known) and known[place] == text:
                out[at] = place
        return out

    def external(self, index: Array) -> list[Any]:
        """Return the external ids of indices `[m]`, as Python integers or strings."""
        return list(self.ids.take(pa.array(index)).to_pylist())

    @classmethod
    def of(cls, *columns: pa.ChunkedArray) -> "IdMap":
        """Build from every distinct id of the columns."""
        ids = pa.chunked_array([coded(column)[0] for column in columns])
        distinct = pc.unique(ids)
        return cls(distinct.take(pc.sort_indices(distinct)))

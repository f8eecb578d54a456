"""Items inside the interactions: of the rows of each id the last one in time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.core.schema import Ties


def last_rows(
    ids: pa.ChunkedArray, times: Array, columns: Mapping[str, pa.ChunkedArray], ties: Ties
) -> Array:
    """Return the place of the last row of each id, ids in the order of their first rows.

    Args:
        ids: as `ids_of` gives them, `[n]`.
        times: in any unit, `[n]`.
        columns: attributes in their canonical types, `[n]` each.
        ties: which of several rows of an id's last time is taken: "hash" the one whose values come
            last in order, column by column, nulls first, so that the order of the rows does not
            matter; "rows" the last row.
    """
    codes = ids.chunk(0).indices.to_numpy()
    order = np.lexsort((times, codes))
    if ties == "hash":
        end = order[np.searchsorted(codes[order], codes, side="right") - 1]
        latest = np.flatnonzero(times == times[end])
        ranks = [_ranks(column.take(pa.array(latest))) for column in columns.values()]
        order = latest[np.lexsort((*ranks[::-1], codes[latest]))]
    last = np.append(codes[order][1:] != codes[order][:-1], True)
    return np.asarray(order[last])


def _ranks(values: pa.ChunkedArray) -> Array:
    """Return the rank of each value among all, equal ones alike, nulls lowest, int64 `[n]`."""
    kind: Any = values.type
    if pa.types.is_fixed_size_list(kind):
        return _ranks_of_vectors(values.combine_chunks(), kind.list_size)
    if pa.types.is_list(kind):
        # No category has a unit separator in it, which is there to part such lists.
        values = pc.binary_join(values, "\x1f")
    elif pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    missing = values.is_null().to_numpy()
    ranks = np.asarray(pc.rank(values, tiebreaker="dense").to_numpy(), np.int64)
    return np.where(missing, -1, ranks)


def _ranks_of_vectors(values: Any, width: int) -> Array:
    ranks = np.full(len(values), -1, np.int64)
    present = ~values.is_null().to_numpy(zero_copy_only=False)
    vectors = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    ranks[present] = np.unique(vectors, axis=0, return_inverse=True)[1].ravel()
    return ranks

"""Arrow columns as places among their distinct values."""

import numpy as np
import pyarrow as pa

from train.core.blocks import counted
from train.core.ragged import Array


def coded(column: pa.ChunkedArray) -> tuple[pa.Array, Array]:
    """Return the distinct values of a column, and of each row the place among them.

    Returns:
        the values that occur, `[m]`; and the places, int32 `[n]`, -1 for null.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    chunks = column.unify_dictionaries().chunks
    places = (chunk.indices.fill_null(-1).to_numpy() for chunk in chunks)
    codes: Array = np.concatenate([np.empty(0, np.int32), *places], dtype=np.int32)
    values = chunks[0].dictionary if chunks else pa.array([], column.type.value_type)
    used = counted(codes + 1, len(values) + 1)[1:] > 0
    if not used.all():  # what was of rows that were left out
        codes = np.append(np.cumsum(used, dtype=np.int32) - np.int32(1), np.int32(-1))[codes]
        values = values.filter(pa.array(used))
    return values, codes

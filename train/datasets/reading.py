"""What was read, in figures that people can check against what they meant to give."""

from typing import Any

import pyarrow as pa

from train.datasets.readers import TableFile

# Names of files in a list, at most.
SHOWN = 20


def files_read(source: TableFile) -> dict[str, Any]:
    """Return the location of a table, the number of its files, their names, and the others'."""
    of = source.listing
    return {
        "location": source.location,
        "count": len(of.parts),
        "files": [part.name for part in of.parts[:SHOWN]],
        "passed_over": len(of.passed_over),
        "reasons": dict(list(of.passed_over.items())[:SHOWN]),
    }


def told_ids(ids: pa.ChunkedArray) -> dict[str, Any]:
    """Return the type of ids as `ids_of` gives them, how many there are, and the first three."""
    distinct = ids.chunk(0).dictionary
    kind = "integer" if pa.types.is_integer(distinct.type) else "string"
    return {"type": kind, "count": len(distinct), "examples": distinct.slice(0, 3).to_pylist()}

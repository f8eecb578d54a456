"""The folder of a batch: what it is of, its parts, and the manifest that comes last.

A part is a Parquet file of some users, which appears whole or not at all. What a killed batch left
is gone on with; `_manifest.json` says that all parts are there. Readers of such folders pass over
names that begin with an underscore.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from cluster import lease, storage

PLAN, MANIFEST = "_batch.json", "_manifest.json"
FORMAT = 1
# The key of a part's counts in its Parquet metadata.
COUNTS = "raytower"


def part_name(number: int) -> str:
    """Return the file of a part."""
    return f"part-{number:06d}.parquet"


def fingerprint(ids: pa.Array) -> str:
    """Return a sha256 over ids in their order."""
    sha = hashlib.sha256(str(ids.type).encode())
    # A slice has the buffers of the whole: of a copy, they are its own.
    sink = pa.BufferOutputStream()
    table = pa.table({"ids": pa.concat_arrays([ids])})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=2**16)
    sha.update(sink.getvalue())
    return sha.hexdigest()


def prepare(out: str, identity: Mapping[str, Any], per_part: int) -> dict[str, Any]:
    """Return the plan of a folder, which is written where it is not there yet.

    Args:
        out: folder or URI.
        identity: what the batch is of, as JSON values.
        per_part: users of a part, of a new plan; an old one keeps its own.

    Raises:
        ValueError: the folder is of another batch, or has something else in it.
    """
    place = storage.join(out, PLAN)
    ours = {lease.FILE, PLAN}
    found = [name for name in storage.names(out) if name not in ours and not name.startswith(".")]
    try:
        plan: dict[str, Any] = json.loads(storage.read_bytes(place))
    except FileNotFoundError:
        if found:
            raise ValueError(
                f"{out} has {found[0]} in it, and no {PLAN}; choose another --out"
            ) from None
        plan = {"format": FORMAT, **identity, "users_per_part": per_part}
        storage.write_bytes(place, _json(plan))
    except ValueError:
        raise ValueError(f"{place} is damaged; delete {out}, or choose another --out") from None
    wanted = {"format": FORMAT, **identity}
    different = [name for name in wanted if plan.get(name) != wanted[name]]
    if different:
        name = different[0]
        raise ValueError(
            f"{out} is of another batch: {name} is {plan.get(name)!r} there, and now "
            f"{wanted[name]!r}; choose another --out, or delete it"
        )
    return plan


def left(out: str, parts: int) -> list[int]:
    """Return the numbers of the parts that are not there yet."""
    there = set(storage.names(out))
    return [number for number in range(parts) if part_name(number) not in there]


def write_part(out: str, number: int, table: pa.Table, counts: Mapping[str, int]) -> None:
    """Write a part, whole or not at all, with what is counted of it among its metadata."""
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({COUNTS: json.dumps(dict(counts))})
    # Scores hardly repeat: a dictionary of them takes time, and saves nothing.
    few = [of.name for of in table.schema if of.type != pa.float64()]
    pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=few)
    storage.write_bytes(storage.join(out, part_name(number)), sink.getvalue())


def read_part(out: str, number: int) -> pa.Table:
    """Return a part."""
    content = storage.read_bytes(storage.join(out, part_name(number)))
    return pyarrow.parquet.read_table(pa.BufferReader(content))


def is_done(out: str) -> bool:
    """Whether all parts are there."""
    return storage.exists(storage.join(out, MANIFEST))


def summary(out: str, parts: int) -> dict[str, int]:
    """Return the sums of what is counted of the parts, and how many there are."""
    sums: Counter[str] = Counter()
    for number in range(parts):
        place, path = storage.filesystem(storage.join(out, part_name(number)))
        with place.open_input_file(path) as file:
            metadata = pyarrow.parquet.ParquetFile(file).schema_arrow.metadata
        sums.update(json.loads(metadata[COUNTS.encode()]))
    return {"parts": parts, **sums}


def read_manifest(out: str) -> dict[str, Any]:
    """Return the manifest of a complete batch."""
    found: dict[str, Any] = json.loads(storage.read_bytes(storage.join(out, MANIFEST)))
    return found


def finish(out: str, manifest: Mapping[str, Any]) -> None:
    """Write the manifest: all parts are there."""
    storage.write_bytes(storage.join(out, MANIFEST), _json(manifest))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"

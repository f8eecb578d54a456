"""Files of a bundle: arrays in safetensors, ids and titles in Arrow, names in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from train.core.features import Features
from train.core.ragged import Array, Ragged


def write_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as one Arrow file."""
    table = pa.table(dict(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> dict[str, pa.Array]:
    """Map the columns of an Arrow file, one array each; they are read when they are looked at."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if any(column.num_chunks > 1 for column in table.columns):
        table = table.combine_chunks()
    return {name: _one_array(table[name]) for name in table.column_names}


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def write_arrays(path: Path, **arrays: Array) -> None:
    """Write named arrays as safetensors, in C order."""
    safetensors.numpy.save_file({k: np.asarray(a, order="C") for k, a in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Map the arrays of a safetensors file; they are read when they are looked at.

    All processes of a machine have one copy of them, in the cache of files, and none may write.
    The format: https://huggingface.co/docs/safetensors/index#format.

    Raises:
        ValueError: it is no such file.
    """
    try:
        # Which checks the header: where arrays lie, and that they are as long as they say.
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is no file of arrays: {error}") from error
    mapped = np.memmap(path, mode="r")
    size = int.from_bytes(mapped[:8].tobytes(), "little")
    header = json.loads(mapped[8 : 8 + size].tobytes())
    data = mapped[8 + size :]
    return {
        name: _array(data[slice(*of["data_offsets"])], of)
        for name, of in header.items()
        if name != "__metadata__"
    }


# Of safetensors' names of types, those that bundles have.
TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


def _array(raw: Array, of: Mapping[str, Any]) -> Array:
    kind = TYPES.get(of["dtype"])
    if kind is None:
        raise ValueError(f"expected numbers, got an array of type {of['dtype']}")
    return np.asarray(raw).view(kind).reshape(of["shape"])


def ragged_arrays(ragged: Ragged, prefix: str = "") -> dict[str, Array]:
    """Return the two arrays of ragged rows by name."""
    return {f"{prefix}values": ragged.values, f"{prefix}offsets": ragged.offsets}


def ragged_of(arrays: Mapping[str, Array], prefix: str = "") -> Ragged:
    """Return the ragged rows that `ragged_arrays` took apart."""
    return Ragged(arrays[f"{prefix}values"], arrays[f"{prefix}offsets"])


def write_features(draft: Path, side: str, features: Features) -> None:
    """Write the encoded attributes of a side, `user` or `item`."""
    arrays = {"dense": features.dense, **ragged_arrays(features.categories, "category_")}
    write_arrays(draft / f"{side}_features.safetensors", **arrays)
    names = {"dense_names": features.dense_names, "vocabulary": features.vocabulary}
    (draft / f"{side}_features.json").write_text(json.dumps(names), encoding="utf-8")


def read_features(folder: Path, side: str) -> Features:
    """Read the encoded attributes of a side, `user` or `item`."""
    arrays = read_arrays(folder / f"{side}_features.safetensors")
    names = json.loads((folder / f"{side}_features.json").read_text(encoding="utf-8"))
    return Features(
        dense=arrays["dense"],
        dense_names=tuple(names["dense_names"]),
        categories=ragged_of(arrays, "category_"),
        vocabulary=tuple(names["vocabulary"]),
    )

"""Files of a bundle: arrays in safetensors, ids and titles in Arrow, names in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy

from train.core.ragged import Array, Ragged
from train.data.encoders import Features


def write_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as one Arrow file."""
    table = pa.table(dict(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> dict[str, pa.Array]:
    """Read the columns of an Arrow file, one array each."""
    with pa.OSFile(str(path), "rb") as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    return {name: _one_array(table[name]) for name in table.column_names}


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def write_arrays(path: Path, **arrays: Array) -> None:
    """Write named arrays as safetensors, in C order."""
    safetensors.numpy.save_file({k: np.asarray(a, order="C") for k, a in arrays.items()}, path)


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
    arrays = safetensors.numpy.load_file(folder / f"{side}_features.safetensors")
    names = json.loads((folder / f"{side}_features.json").read_text(encoding="utf-8"))
    return Features(
        dense=arrays["dense"],
        dense_names=tuple(names["dense_names"]),
        categories=ragged_of(arrays, "category_"),
        vocabulary=tuple(names["vocabulary"]),
    )

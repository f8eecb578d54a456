"""The users that a batch recommends to: all of a bundle, the active ones, or those of a file."""

import re
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset

from cluster import storage
from train.core.ragged import Array
from train.data.ids import IdMap
from train.data.statistics import DAY
from train.recommender.recommender import Recommender

USER = "user_id"
_ACTIVE = re.compile(r"active:(\d+)d")


def _delimited(delimiter: str) -> pyarrow.dataset.CsvFileFormat:
    # As text: what is an id of one type is no id of the other.
    return pyarrow.dataset.CsvFileFormat(
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={USER: pa.string()}, strings_can_be_null=True, null_values=[""]
        ),
    )


_FORMATS = {".parquet": "parquet", ".csv": _delimited(","), ".tsv": _delimited("\t")}


def users_of(recommender: Recommender, which: str) -> pa.Array:
    """Return the ids of users, of the bundle's type, each once.

    Args:
        recommender: knows the users.
        which: `all`, `active:30d` (who interacted within so many days before the last moment that
            the bundle knows), or a file or URI.

    Raises:
        ValueError: the file has no such column, or ids that are missing or of another type; or
            nobody is meant.
        OSError: it cannot be read.
    """
    days = _ACTIVE.fullmatch(which)
    if which == "all":
        ids = recommender.users.ids
    elif days:
        ids = recommender.users.ids.take(pa.array(_active(recommender, int(days[1]))))
    else:
        ids = _of_file(recommender.users, which)
    if not len(ids):
        raise ValueError(f"--users {which}: there is none")
    return ids


def _active(recommender: Recommender, days: int) -> Array:
    known = recommender.statistics
    if not known.timed:
        raise ValueError(
            f"--users active:{days}d: the bundle's interactions have no times; expected `all`, or "
            "a file"
        )
    recent = known.user_last >= known.as_of - days * DAY
    return np.flatnonzero(recent & (known.user_count > 0))


def _of_file(users: IdMap, file: str) -> pa.Array:
    kind = _FORMATS.get(PurePosixPath(file.partition("?")[0]).suffix)
    if kind is None:
        expected = ", ".join(("all", "active:30d", *(f"a {suffix} file" for suffix in _FORMATS)))
        raise ValueError(f"--users {file}: expected {expected}")
    place, path = storage.filesystem(file)
    data = pyarrow.dataset.dataset(path, format=kind, filesystem=place)
    if USER not in data.schema.names:
        names = ", ".join(data.schema.names)
        raise ValueError(f"{file}: expected a column {USER}; it has {names}")
    ids = data.to_table(columns=[USER])[USER]
    missing = np.flatnonzero(ids.is_null().to_numpy())
    if len(missing):
        raise ValueError(f"{file}: {USER} is missing in row {missing[0] + 1}")
    ids = _typed(users, ids, file).combine_chunks()
    distinct = pc.unique(ids)
    if len(distinct) < len(ids):
        repeated = len(ids) - len(distinct)
        raise ValueError(f"{file}: {repeated:,} of {len(ids):,} ids repeat others; give each once")
    return ids


def _typed(users: IdMap, ids: pa.ChunkedArray, file: str) -> pa.ChunkedArray:
    """Return ids in the bundle's type.

    Raises:
        ValueError: they are of another.
    """
    wanted = users.ids.type
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if pa.types.is_integer(wanted) == pa.types.is_integer(ids.type):
        return ids.cast(wanted)
    plain = pa.types.is_integer(wanted) and pa.types.is_string(ids.type)
    bad = pc.invert(pc.match_substring_regex(ids, r"^(0|-?[1-9]\d{0,17})$")) if plain else None
    if bad is not None and not pc.any(bad).as_py():
        return ids.cast(wanted)
    odd = ids if bad is None else ids.filter(bad)
    kind = "integers" if pa.types.is_integer(wanted) else "text"
    raise ValueError(
        f"{file}: expected ids of the bundle's type, {kind}, got {ids.type}: {odd[0].as_py()!r}"
    )

"""Tables of attributes of items or users: which columns they have, and what becomes of them."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from train.core.schema import Kind
from train.datasets.columns import Column
from train.datasets.convert import CONVERT, categories, embedding, text
from train.datasets.readers import TableFile

# The name of a column that is none, but a value of the first row.
_NUMBER = re.compile(r"-?[0-9.:T -]+")


@dataclass(frozen=True)
class AttributeTable:
    """A table of the attributes of items or users, and the names of its columns.

    Attributes:
        columns: kind of each attribute. A name that is no column but the start of several makes
            one embedding of them (`clip_text_` of `clip_text_0`, `clip_text_1`, ...).
        separator: between the categories of a text column.
    """

    source: TableFile
    id: str
    columns: Mapping[str, Kind]
    title: str | None = None
    separator: str = "|"

    def read(self) -> dict[str, Column]:
        """Read the columns, still as they are in the file."""
        return self.source.read(self.choose)

    def choose(self, where: str, there: Sequence[str]) -> list[str]:
        """Return the names of its columns among those that are there."""
        chosen = present(where, there, [self.id, self.title] if self.title else [self.id])
        for name, kind in self.columns.items():
            group = _prefixed(name, there) if kind == "embedding" else []
            chosen += group or present(where, there, [name])
        return list(dict.fromkeys(chosen))

    def convert(self, read: Mapping[str, Column]) -> dict[str, pa.ChunkedArray]:
        """Return title (where there is one) and attributes under their canonical names."""
        title = {"title": text(read[self.title])} if self.title else {}
        return title | {name: self._attribute(name, read) for name in self.columns}

    def _attribute(self, name: str, read: Mapping[str, Column]) -> pa.ChunkedArray:
        kind = self.columns[name]
        if kind == "embedding":
            return embedding([read[n] for n in _prefixed(name, list(read)) or [name]])
        if kind == "categories":
            return categories(read[name], self.separator)
        return CONVERT[kind](read[name])


def present(where: str, there: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return names of columns that all have to be there.

    Raises:
        ValueError: some are missing; `where` says of which file.
    """
    missing = [name for name in dict.fromkeys(names) if name not in there]
    if missing:
        raise ValueError(
            f"{where}: no column {', '.join(map(repr, missing))}; it has: {', '.join(there)}. "
            f"{_advice(missing, there)}"
        )
    return list(names)


def _advice(missing: Sequence[str], there: Sequence[str]) -> str:
    """Return what to do about columns that are not there: what may be meant is looked for."""
    for delimiter in ("\t", ";", "|", ","):
        if len(there) == 1 and delimiter in there[0]:
            return f"Set data.delimiter = {json.dumps(delimiter)}"
    if all(_NUMBER.fullmatch(name) for name in there):
        return "Is its first row no header? Name the columns in data.csv.header"
    plain = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in there}
    meant = {n: difflib.get_close_matches(n.lower(), plain, n=1, cutoff=0.75) for n in missing}
    close = [f"{name!r}: {plain[near[0]]!r}" for name, near in meant.items() if near]
    hint = f" (did you mean {', '.join(close)}?)" if close else ""
    return f"Set the column names in [data]{hint}"


def _prefixed(name: str, there: Sequence[str]) -> list[str]:
    """Return the columns `name0`, `name1`, ... in the order of their numbers."""
    if name in there:
        return []
    columns = [column for column in there if column.startswith(name)]
    tails = [column.removeprefix(name) for column in columns]
    if all(tail.isdecimal() for tail in tails):
        return [columns[i] for i in np.argsort([int(tail) for tail in tails], kind="stable")]
    return sorted(columns)

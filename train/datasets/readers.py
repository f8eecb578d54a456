"""Columns out of CSV and Parquet: one file, a folder of them, or any URI that pyarrow.fs opens."""

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from train.datasets.columns import Column

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")
Choice = Callable[[str, Sequence[str]], Sequence[str]]
"""Chooses columns by a file's place and the names in it; raises ValueError where one is missing."""


@dataclass(frozen=True)
class TableFile:
    """A table in CSV or Parquet files: its location, and the format of CSV.

    Attributes:
        location: path or URI of a file or a folder.
        delimiter: between the columns of a CSV file; `.tsv` files have tabs all the same.
        encoding: of the text of CSV files.
    """

    location: str
    delimiter: str = ","
    encoding: str = "utf-8"

    def read(self, choose: Choice) -> dict[str, Column]:
        """Read the columns that `choose(location, names)` picks; CSV columns come as strings.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: a file cannot be read as what its name says, or the table is empty.
        """
        system, paths = self._files()
        tables = [self._one(system, path, choose) for path in paths]
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"{self.location}: its files differ in their columns: {error}"
            ) from error
        if not len(table):
            raise ValueError(f"{self.location}: expected rows; the table is empty")
        return {name: Column(self.location, name, table[name]) for name in table.column_names}

    def _files(self) -> tuple[pa.fs.FileSystem, list[str]]:
        system, path = _resolved(self.location)
        info = system.get_file_info(path)
        if info.type == pa.fs.FileType.NotFound:
            raise FileNotFoundError(f"no file or folder {self.location!r}; looked for {path}")
        if info.type == pa.fs.FileType.File:
            return system, [path]
        inside = system.get_file_info(pa.fs.FileSelector(path, recursive=True))
        paths = sorted(i.path for i in inside if i.is_file and _is_data(i.path))
        if not paths or len({p.endswith(_PARQUET) for p in paths}) > 1:
            content = f"{len(inside)} other entries" if not paths else "both"
            kinds = ", ".join(_CSV + _PARQUET)
            raise ValueError(
                f"{self.location}: expected a folder of CSV or of Parquet files ({kinds}); "
                f"it has {content}"
            )
        return system, paths

    def _one(self, system: pa.fs.FileSystem, path: str, choose: Choice) -> pa.Table:
        name = self.location if path.endswith(posixpath.basename(self.location)) else path
        try:
            if path.endswith(_PARQUET):
                return _parquet(system, path, name, choose)
            return self._csv(system, path, name, choose)
        except pa.ArrowInvalid as error:
            kind = "Parquet" if path.endswith(_PARQUET) else "CSV"
            raise ValueError(f"{name}: cannot be read as {kind}: {error}") from error

    def _csv(self, system: pa.fs.FileSystem, path: str, name: str, choose: Choice) -> pa.Table:
        delimiter = "\t" if path.endswith((".tsv", ".tsv.gz")) else self.delimiter
        parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        # One thread counts rows, so that errors name them; several parse blocks whose place they do
        # not know.
        counting = pa.csv.ReadOptions(encoding=self.encoding, use_threads=False)
        with system.open_input_stream(path) as stream:
            header = pa.csv.open_csv(stream, counting, parse).schema.names
        columns = list(choose(name, header))
        convert = pa.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        fast = pa.csv.ReadOptions(encoding=self.encoding)
        try:
            with system.open_input_stream(path) as stream:
                return pa.csv.read_csv(stream, fast, parse, convert)
        except pa.ArrowInvalid:
            with system.open_input_stream(path) as stream:
                return pa.csv.read_csv(stream, counting, parse, convert)


def _parquet(system: pa.fs.FileSystem, path: str, name: str, choose: Choice) -> pa.Table:
    with system.open_input_file(path) as file:
        parquet = pa.parquet.ParquetFile(file)
        return parquet.read(columns=list(choose(name, parquet.schema_arrow.names)))


def _resolved(location: str) -> tuple[Any, str]:
    if "://" in location:
        system, path = pa.fs.FileSystem.from_uri(location)
        return system, str(path)
    return pa.fs.LocalFileSystem(), str(Path(location).expanduser().absolute())


def _is_data(path: str) -> bool:
    name = posixpath.basename(path)
    return name.endswith(_CSV + _PARQUET) and not name.startswith((".", "_"))

"""Columns out of CSV and Parquet: one file, a folder of them, or any URI that pyarrow.fs opens."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet

from train.datasets.columns import Column
from train.datasets.csv_format import CsvFormat
from train.datasets.csv_reader import CsvFile
from train.datasets.folders import Listing, TablePart, listing
from train.datasets.formats import CSV, PARQUET, Format, format_of

Choice = Callable[[str, Sequence[str]], Sequence[str]]
"""Chooses columns by a file's place and the names in it; raises ValueError where one is missing."""


@dataclass(frozen=True)
class TableFile:
    """A table in CSV or Parquet files: its location, and the format of CSV.

    Attributes:
        location: path or URI of a file or a folder.
        csv: how CSV files are written.
    """

    location: str
    csv: CsvFormat = field(default_factory=CsvFormat)

    @cached_property
    def listing(self) -> Listing:
        """Its files, and what else lies in a folder."""
        return listing(self.location)

    def read(self, choose: Choice) -> dict[str, Column]:
        """Read the columns that `choose(location, names)` picks; CSV columns come as strings.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: a file cannot be read as what it is, or the table is empty.
        """
        formats = self._formats()
        tables = [
            self._one(part, form, choose)
            for part, form in zip(self.listing.parts, formats, strict=True)
        ]
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"{self.location}: its files differ in their columns: {error}"
            ) from error
        if not len(table):
            raise ValueError(f"{self.location}: expected rows; the table is empty")
        counts = [(part.name, len(of)) for part, of in zip(self.listing.parts, tables, strict=True)]
        folders = {key for part in self.listing.parts for key in part.partition}
        text = formats[0].kind == CSV
        return {
            name: Column(
                self.location,
                name,
                table[name],
                written=text or name in folders,
                decimal=self.csv.decimal,
                parts=counts,
            )
            for name in table.column_names
        }

    def _formats(self) -> list[Format]:
        of = self.listing
        places = [(part, self._name(part)) for part in of.parts]
        formats = [
            format_of(of.system, part.path, name, self.csv.encoding) for part, name in places
        ]
        kinds = {form.kind for form in formats}
        if len(kinds) > 1:
            raise ValueError(
                f"{self.location}: expected a folder of CSV or of Parquet files; it has both"
            )
        return formats

    def _name(self, part: TablePart) -> str:
        if part.name == self.location:
            return self.location
        return f"{self.location.rstrip('/')}/{part.name}"

    def _one(self, part: TablePart, form: Format, choose: Choice) -> pa.Table:
        name, system = self._name(part), self.listing.system
        try:
            if form.kind == PARQUET:
                with system.open_input_file(part.path) as file:
                    parquet = pa.parquet.ParquetFile(file)
                    return _chosen(part, name, parquet.schema_arrow.names, choose, parquet.read)
            csv = CsvFile(system, part.path, name, form.compression, self.csv)
            return _chosen(part, name, csv.header(), choose, csv.read)
        except (pa.ArrowInvalid, OSError) as error:
            # What the system says has a number; what Arrow says of a damaged file has none.
            if isinstance(error, OSError) and error.errno:
                raise
            raise ValueError(f"{name}: cannot be read as {form.kind}: {error}") from error


def _chosen(
    part: TablePart,
    name: str,
    there: Sequence[str],
    choose: Choice,
    read: Callable[..., pa.Table],
) -> pa.Table:
    """Return the chosen columns of a file, with those that its folders' names give."""
    folders = {key: value for key, value in part.partition.items() if key not in there}
    chosen = list(choose(name, [*there, *folders]))
    twice = [column for column in chosen if Counter(there)[column] > 1]
    if twice:
        raise ValueError(f"{name}: column {twice[0]!r} is there more than once; rename one")
    table = read(columns=[column for column in chosen if column not in folders])
    for key in [column for column in chosen if column in folders]:
        table = table.append_column(key, pa.array([folders[key]] * len(table), pa.string()))
    return table

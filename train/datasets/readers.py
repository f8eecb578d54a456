"""Columns out of CSV and Parquet: one file, a folder of them, or any URI that pyarrow.fs opens."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet

from cluster.memory import check_room
from train.core.blocks import BLOCK
from train.datasets.coding import Read, below, read_blocks
from train.datasets.columns import Column
from train.datasets.csv_format import CsvFormat
from train.datasets.csv_reader import CsvFile
from train.datasets.folders import Listing, TablePart, listing
from train.datasets.formats import CSV, PARQUET, Format, format_of

# Of a value, at the least, once it is read: a place among ids, or a number.
LEAST = 4

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

    def read(self, choose: Choice, ids: Collection[str] = ()) -> dict[str, Column]:
        """Read the columns that `choose(location, names)` picks; CSV columns come as strings.

        Args:
            choose: columns of a file.
            ids: those whose values come again and again: they are read into a dictionary, a block
                of rows at a time.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: a file cannot be read as what it is, or the table is empty.
        """
        formats = self._formats()
        read: list[Read] = []
        for part, form in zip(self.listing.parts, formats, strict=True):
            before = sum(len(of.table) for of in read)
            read.append(self._one(part, form, choose, ids, before))
        sizes = [
            (part.name, len(of.table)) for part, of in zip(self.listing.parts, read, strict=True)
        ]
        try:
            table = below(read)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"{self.location}: its files differ in their columns: {error}"
            ) from error
        if not len(table):
            raise ValueError(f"{self.location}: expected rows; the table is empty")
        folders = {key for part in self.listing.parts for key in part.partition}
        text = formats[0].kind == CSV
        return {
            name: Column(
                self.location,
                name,
                table[name],
                written=text or name in folders,
                decimal=self.csv.decimal,
                parts=sizes,
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

    def _one(
        self, part: TablePart, form: Format, choose: Choice, ids: Collection[str], before: int
    ) -> Read:
        """Return the chosen columns of a file; so many rows were in those before it."""
        name, system = self._name(part), self.listing.system
        try:
            if form.kind == PARQUET:
                with system.open_input_file(part.path) as file:
                    parquet = pa.parquet.ParquetFile(file)
                    inside, folders = _chosen(part, name, parquet.schema_arrow.names, choose)
                    rows = before + parquet.metadata.num_rows
                    check_room(
                        rows * LEAST * len(inside),
                        f"{self.location}: reading {rows:,} rows of {', '.join(inside)}",
                        "give fewer rows, or run it where there is more",
                    )
                    read = _parquet(parquet, inside, ids)
            else:
                csv = CsvFile(system, part.path, name, form.compression, self.csv)
                inside, folders = _chosen(part, name, csv.header(), choose)
                read = csv.read(inside, ids)
        except (pa.ArrowInvalid, OSError) as error:
            # What the system says has a number; what Arrow says of a damaged file has none.
            if isinstance(error, OSError) and error.errno:
                raise
            raise ValueError(f"{name}: cannot be read as {form.kind}: {error}") from error
        table = read.table
        for key, value in folders.items():
            table = table.append_column(key, pa.array([value] * len(table), pa.string()))
        return Read(table, read.values)


def _parquet(file: pa.parquet.ParquetFile, columns: list[str], ids: Collection[str]) -> Read:
    schema = pa.schema([file.schema_arrow.field(name) for name in columns])
    return read_blocks(schema, file.iter_batches(BLOCK, columns=columns), ids)


def _chosen(
    part: TablePart, name: str, there: Sequence[str], choose: Choice
) -> tuple[list[str], dict[str, str | None]]:
    """Return the chosen columns inside a file, and the values of those that its folders name."""
    folders = {key: value for key, value in part.partition.items() if key not in there}
    chosen = list(choose(name, [*there, *folders]))
    twice = [column for column in chosen if Counter(there)[column] > 1]
    if twice:
        raise ValueError(f"{name}: column {twice[0]!r} is there more than once; rename one")
    inside = [column for column in chosen if column not in folders]
    return inside, {column: folders[column] for column in chosen if column in folders}

"""CSV files, read by Arrow with every column as text."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from train.datasets.coding import Read, read_blocks
from train.datasets.columns import some
from train.datasets.csv_format import CsvFormat

T = TypeVar("T")
# Rows have to fit into a block: 1 MiB as a rule, more where a row is longer.
_BLOCKS = (2**20, 2**24, 2**28, 2**30)
_COLUMN = re.compile(r"In CSV column #([0-9]+)")
# Encodings to propose, the likely ones first.
_ENCODINGS = ("utf-8", "cp1252", "latin-1")


@dataclass(frozen=True)
class CsvFile:
    """One CSV file.

    Attributes:
        system: where it is.
        path: there.
        name: for errors.
        compression: as Arrow names it, if any.
        format: how it is written.
    """

    system: Any
    path: str
    name: str
    compression: str | None
    format: CsvFormat

    def header(self) -> list[str]:
        """Return the names of its columns."""
        if self.format.header:
            return list(self.format.header)
        names = self._tried(lambda options: self._opened(options).schema.names)
        return [str(name) for name in names]

    def read(self, columns: Sequence[str], ids: Collection[str] = ()) -> Read:
        """Return the columns of these names, of strings, null where nothing stands.

        Args:
            columns: their names.
            ids: those that are coded; see `coding`.

        Raises:
            ValueError: a row or a text cannot be read; the message names the row.
        """
        convert = pa.csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )

        def blocks(options: dict[str, Any]) -> Read:
            with self._stream() as stream:
                read = pa.csv.ReadOptions(**options, column_names=self.format.header or None)
                file = pa.csv.open_csv(stream, read, self._parsing(), convert)
                return read_blocks(file.schema, self._checked(file), ids)

        return self._tried(blocks)

    def _checked(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches):
            if not number:
                self._check_first_row(batch)
            self._check_escapes(batch)
            yield batch

    def _opened(self, options: dict[str, Any]) -> Any:
        with self._stream() as stream:
            return pa.csv.open_csv(stream, pa.csv.ReadOptions(**options), self._parsing())

    def _stream(self) -> Any:
        return self.system.open_input_stream(self.path, compression=self.compression)

    def _parsing(self) -> pa.csv.ParseOptions:
        name = self.path.lower()
        tabs = name.endswith(".tsv") or ".tsv." in name
        return pa.csv.ParseOptions(
            delimiter="\t" if tabs else self.format.delimiter,
            quote_char=self.format.quote or False,
            escape_char=self.format.escape or False,
            newlines_in_values=True,
        )

    def _tried(self, read: Callable[[dict[str, Any]], T]) -> T:
        """Return what is read, in larger blocks where rows are longer; explain what fails."""
        options: dict[str, Any] = {"encoding": self.format.encoding}
        for size in _BLOCKS:
            options["block_size"] = size
            try:
                return read(options)
            except pa.ArrowInvalid as error:
                if "block" in str(error) and size < _BLOCKS[-1]:
                    continue
                # Arrow names the row of what it cannot parse only where one thread reads.
                message = _error_of(read, options | {"use_threads": False}) or str(error)
                raise ValueError(self._explained(message)) from error
            except UnicodeError as error:
                raise ValueError(self._wrong_encoding("the text")) from error
        raise AssertionError

    def _explained(self, error: str) -> str:
        if "invalid UTF8" in error:
            found = _COLUMN.search(error)
            names = self.header()
            column = names[int(found.group(1))] if found else None
            return self._wrong_encoding(f"column {column!r}" if column else "the text")
        advice = ""
        if self.format.escape is None and "Expected" in error and self._first_escape() is not None:
            advice = f". {_ESCAPE}"
        return f"{self.name}: cannot be read as CSV: {error}{advice}"

    def _wrong_encoding(self, what: str) -> str:
        with self._stream() as stream:
            start = stream.read(2**24)
        reading = [of for of in _ENCODINGS if _decodes(start, of)]
        advice = f" ({reading[0]} reads it)" if reading else ""
        return f"{self.name}: {what} is not in {self.format.encoding}; set data.encoding{advice}"

    def _check_first_row(self, table: pa.RecordBatch) -> None:
        names = [name for name in self.format.header if name in table.schema.names]
        if not names or not len(table):
            return
        if all(table[name][0].as_py() == name for name in names):
            raise ValueError(
                f"{self.name}: its first row has the names of data.csv.header; leave that out"
            )

    def _check_escapes(self, table: pa.RecordBatch) -> None:
        """Raise ValueError where quotes have backslashes before them, and no setting says so."""
        if self.format.escape is not None or not self.format.quote:
            return
        pattern = re.escape("\\") + "[\\s\\S]*" + re.escape(self.format.quote)
        if not any(some(pc.match_substring_regex(column, pattern)) for column in table.columns):
            return
        line = self._first_escape()
        if line is not None:
            raise ValueError(f"{self.name}: {line!r} has a backslash before a quote. {_ESCAPE}")

    def _first_escape(self) -> str | None:
        """Return the first line with a backslash and a quote that ends no value, shortened."""
        quote, delimiter = (
            re.escape(c.encode()) for c in (self.format.quote, self.format.delimiter)
        )
        inside = re.compile(rb"\\" + quote + rb"[^" + quote + delimiter + rb"\r\n]")
        with self._stream() as stream:
            while block := stream.read(2**24):
                found = inside.search(block)
                if found:
                    begin = block.rfind(b"\n", 0, found.start()) + 1
                    line = block[begin : found.end() + 40].split(b"\n")[0]
                    return str(line.decode(self.format.encoding, "replace"))[:80]
        return None


_ESCAPE = (
    'Are quotes within values written so? Set data.csv.escape = "\\\\"; if backslashes are text, '
    'set data.csv.escape = ""'
)


def _error_of(read: Callable[[dict[str, Any]], object], options: dict[str, Any]) -> str | None:
    """Return what Arrow says of a failing read with these options."""
    try:
        read(options)
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        # What was cut in the middle of a letter is no error.
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4 and "end of data" in error.reason
    return True

"""What a file holds, by its name and its first bytes."""

import posixpath
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs

CSV, PARQUET = "CSV", "Parquet"
_SUFFIXES = {CSV: (".csv", ".tsv", ".txt"), PARQUET: (".parquet", ".parq", ".pq")}
# Suffixes of compressed files, and what they begin with.
_COMPRESSIONS = {
    "gzip": (".gz", b"\x1f\x8b"),
    "bz2": (".bz2", b"BZh"),
    "zstd": (".zst", b"\x28\xb5\x2f\xfd"),
    "lz4": (".lz4", b"\x04\x22\x4d\x18"),
    "brotli": (".br", None),
}
# Names without a suffix, as Hadoop gives them: part-00003, part-m-00000.
_PART = re.compile(r"part-[-a-z0-9_]+", re.IGNORECASE)
_TO_CSV = "python -c \"import pandas; pandas.read_{0}('{1}').to_csv('{1}.csv', index=False)\""
_FROM_JSON = (
    'python -c "import pyarrow.json as j, pyarrow.parquet as p; '
    "p.write_table(j.read_json('{1}'), '{1}.parquet')\""
)
# What begins so is no table that is read: what it is, and the line that makes it one.
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive", "unzip {1}"),
    (b"PK\x05\x06", "a ZIP archive without files", "unzip {1}"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _TO_CSV.format("excel", "{1}")),
    (b"ARROW1", "an Arrow (Feather) file", _TO_CSV.format("feather", "{1}")),
    (b"ORC", "an ORC file", _TO_CSV.format("orc", "{1}")),
    (b"\x89HDF", "an HDF5 file", _TO_CSV.format("hdf", "{1}")),
    (b"Obj\x01", "an Avro file", "duckdb -c \"copy (from '{1}') to '{1}.parquet'\""),
    (b"SQLite format 3", "an SQLite database", "sqlite3 -csv -header {1} 'select * from ...'"),
    (b"\xfd7zXZ", "an XZ archive", "unxz {1}"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "7z x {1}"),
    (b'{"', "JSON lines", _FROM_JSON),
    (b"[{", "JSON", _TO_CSV.format("json", "{1}")),
    (b"[\n", "JSON", _TO_CSV.format("json", "{1}")),
    (b"<!DOCTYPE", "a web page", "open it: it may say why there was no file"),
    (b"<html", "a web page", "open it: it may say why there was no file"),
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Format:
    """What a file holds: CSV or Parquet, and how it is compressed (as Arrow names it), if so."""

    kind: str
    compression: str | None = None


def is_data(path: str) -> bool:
    """Whether a file's name is that of a table: by its suffix, in any case, or `part-00003`."""
    return _by_name(path)[0] is not None or bool(_PART.fullmatch(posixpath.basename(path)))


def suffixes() -> str:
    """Return the suffixes that are read, in words."""
    compressed = ", ".join(suffix for suffix, _ in _COMPRESSIONS.values())
    csv, parquet = (" ".join(_SUFFIXES[kind]) for kind in (CSV, PARQUET))
    return f"{csv} (also with {compressed}) or {parquet}"


def format_of(system: pa.fs.FileSystem, path: str, name: str, encoding: str) -> Format:
    """Return what a file holds.

    Args:
        system: where it is.
        path: there.
        name: for errors.
        encoding: that text is to have.

    Raises:
        ValueError: it is empty, or no format that is read; the message has the line that converts
            it.
    """
    kind, compression = _by_name(path)
    head = _head(system, path, None)
    by_bytes = (of for of, (_, first) in _COMPRESSIONS.items() if first and head.startswith(first))
    compression = compression or next(by_bytes, None)
    if compression:
        head = _head(system, path, compression)
    if head.startswith(b"PAR1"):
        if compression:
            raise ValueError(f"{name}: Parquet within {compression} is not read; unpack the file")
        return Format(PARQUET)
    _refuse_others(head, name)
    if not head:
        raise ValueError(f"{name}: the file is empty; expected CSV or Parquet")
    if kind == PARQUET:
        raise ValueError(f"{name}: expected Parquet, as its name says; it begins with {head[:8]!r}")
    _check_text(head, name, encoding)
    return Format(CSV, compression)


def _by_name(path: str) -> tuple[str | None, str | None]:
    name, compression = posixpath.basename(path).lower(), None
    for of, (suffix, _) in _COMPRESSIONS.items():
        if name.endswith(suffix):
            name, compression = name.removesuffix(suffix), of
    for kind, endings in _SUFFIXES.items():
        if name.endswith(endings):
            return kind, compression
    return None, compression


def _head(system: pa.fs.FileSystem, path: str, compression: str | None) -> bytes:
    try:
        with system.open_input_stream(path, compression=compression, buffer_size=4096) as stream:
            return bytes(stream.read(512))
    except OSError as error:
        if compression is None or error.errno:
            raise
        raise ValueError(f"{path}: cannot be unpacked as {compression}: {error}") from error


def _refuse_others(head: bytes, name: str) -> None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for first, what, line in _OTHERS:
        if not text.startswith(first):
            continue
        base = posixpath.basename(name)
        if what == "a ZIP archive" and (b"[Content_Types]" in head or b"xl/" in head):
            what, line = "an Excel workbook (XLSX)", _TO_CSV.format("excel", "{1}")
        raise ValueError(
            f"{name}: it is {what}, which is not read; expected CSV or Parquet. "
            f"To convert it: {line.format('', base)}"
        )


def _check_text(head: bytes, name: str, encoding: str) -> None:
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
    if head.startswith(_UTF_16) and not wide:
        raise ValueError(f'{name}: the text is in UTF-16; set data.encoding = "utf-16"')
    if b"\0" in head and not wide:
        raise ValueError(f"{name}: expected CSV or Parquet; it begins with {head[:8]!r}")

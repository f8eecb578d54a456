"""A batch as a table of a database, which is replaced all at once.

Rows are loaded under another name, a transaction a part, so that a load that was ended goes on;
then the table is dropped and the new one takes its name, in one transaction where the database has
such (PostgreSQL and SQLite do). Nothing here is of one database: see SQLAlchemy's dialects
(https://docs.sqlalchemy.org/en/20/dialects/).
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from serve.batch.folder import read_part

logger = logging.getLogger("serve.batch")

# Rows of one statement.
ROWS = 10_000
_TYPES: Any = {"int64": sa.BigInteger, "int32": sa.Integer, "double": sa.Double, "bool": sa.Boolean}


@dataclass(frozen=True)
class Target:
    """A table that a batch is loaded into.

    Attributes:
        engine: of the database, which answers.
        name: of the table.
    """

    engine: sa.Engine
    name: str

    def load(self, out: str, manifest: Mapping[str, Any]) -> None:
        """Replace the table by the parts of a folder; parts that were loaded before are not again.

        Args:
            out: folder or URI of a complete batch.
            manifest: its own.
        """
        stamp = hashlib.sha256(json.dumps(dict(manifest), sort_keys=True).encode()).hexdigest()[:12]
        rows, marks = self._tables(read_part(out, 0).schema, stamp)
        with self.engine.begin() as connection:
            self._forget_others(connection, stamp)
            rows.metadata.create_all(connection)
        with self.engine.connect() as connection:
            loaded = set(connection.execute(sa.select(marks.c.part)).scalars())
        for part in range(manifest["parts"]):
            if part not in loaded:
                self._load_part(rows, marks, part, read_part(out, part))
                logger.info("%s: %d of %d parts", self.name, part + 1, manifest["parts"])
        self._take_name(rows, marks)

    def _tables(self, schema: pa.Schema, stamp: str) -> tuple[sa.Table, sa.Table]:
        """Return the table of the rows, and that of the parts that are loaded."""
        data = sa.MetaData()
        columns = [sa.Column(of.name, _type(of)) for of in schema]
        key = sa.PrimaryKeyConstraint("user_id", "rank", name=f"pk_{self.name}_{stamp}")
        rows = sa.Table(f"{self.name}_{stamp}", data, *columns, key)
        part = sa.Column("part", sa.Integer, primary_key=True, autoincrement=False)
        return rows, sa.Table(f"{self.name}_{stamp}_parts", data, part)

    def _forget_others(self, connection: sa.Connection, stamp: str) -> None:
        """Drop what loads of other batches have left."""
        prefix, ours = f"{self.name}_", f"{self.name}_{stamp}"
        for name in sa.inspect(connection).get_table_names():
            stem = name.removesuffix("_parts").removeprefix(prefix)
            hexadecimal = len(stem) == len(stamp) and set(stem) <= set("0123456789abcdef")
            if name.startswith(prefix) and hexadecimal and not name.startswith(ours):
                sa.Table(name, sa.MetaData()).drop(connection)

    def _load_part(self, rows: sa.Table, marks: sa.Table, part: int, table: pa.Table) -> None:
        with self.engine.begin() as connection:
            for batch in table.to_batches(ROWS):
                if len(batch):
                    connection.execute(rows.insert(), [_plain(row) for row in batch.to_pylist()])
            connection.execute(marks.insert(), {"part": part})

    def _take_name(self, rows: sa.Table, marks: sa.Table) -> None:
        quote = self.engine.dialect.identifier_preparer.quote
        with self.engine.begin() as connection:
            sa.Table(self.name, sa.MetaData()).drop(connection, checkfirst=True)
            connection.execute(
                sa.text(f"ALTER TABLE {quote(rows.name)} RENAME TO {quote(self.name)}")
            )
            marks.drop(connection)


@contextlib.contextmanager
def target(url: str, name: str) -> Iterator[Target]:
    """Yield a table of a database that answers.

    Raises:
        ValueError: the URL is none, its driver is not installed, or the database does not answer.
    """
    try:
        engine = sa.create_engine(url)
        with engine.connect():
            pass
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        # The URL may have a password in it.
        said = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise ValueError(
            f"--database: {said}; expected a URL of SQLAlchemy, such as "
            "postgresql+psycopg://host/shop, whose driver is installed"
        ) from None
    try:
        yield Target(engine, name)
    finally:
        engine.dispose()


def _type(field: pa.Field) -> Any:
    # Keys of texts have a length in some databases.
    return _TYPES.get(str(field.type), lambda: sa.String(255) if _is_key(field) else sa.Text())()


def _is_key(field: pa.Field) -> bool:
    return field.name in ("user_id", "item_id", "source", "similar_to")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose lists are JSON."""
    return {
        name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()
    }

"""How CSV files are written: `[data.csv]`."""

import codecs
from typing import Literal

from pydantic import Field, field_validator, model_validator

from train.core.settings import Settings


class CsvFormat(Settings):
    """How CSV files are written.

    Attributes:
        delimiter: between columns; `.tsv` files have tabs all the same.
        quote: around values that have a delimiter or a line break in them; "" for none, where
            quotes are text like other text.
        escape: before a quote within quotes, as Spark and MySQL write it (a backslash); "" for
            none. Where it is not set, a quote within quotes is doubled, and files that look
            otherwise are refused.
        encoding: of the text.
        decimal: what stands before decimals.
        header: names of the columns, where the first row of a file has none.
    """

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', max_length=1)
    escape: str | None = Field(default=None, max_length=1)
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    header: tuple[str, ...] = ()

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str) -> str:
        return known_encoding(name)

    @model_validator(mode="after")
    def _check(self) -> "CsvFormat":
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark]
        if len(set(marks)) < len(marks):
            raise ValueError(f"delimiter, quote and escape: expected three of them, got {marks}")
        repeated = {name for name in self.header if self.header.count(name) > 1}
        if repeated:
            raise ValueError(f"header: expected every name once, got {', '.join(repeated)} again")
        return self


def known_encoding(name: str) -> str:
    """Return the name of an encoding of text that Python knows, or raise ValueError."""
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError(
            f"unknown encoding {name!r}; expected one of Python's, such as utf-8, cp1252 (Windows, "
            "Western Europe), latin-1, utf-16, gb18030 or shift_jis"
        ) from None
    return name

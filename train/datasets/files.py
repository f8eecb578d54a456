"""Your own tables: the data set `files`."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from train.core.schema import Kind, Tables
from train.datasets.attributes import AttributeTable
from train.datasets.base import Dataset
from train.datasets.events import Events
from train.datasets.kinds import Kinds
from train.datasets.readers import TableFile
from train.datasets.tables import read_tables
from train.datasets.times import TimeUnit


def _known_kinds(value: Any) -> Any:
    kinds = get_args(Kind)
    for column, kind in value.items() if isinstance(value, dict) else ():
        if kind not in kinds:
            raise ValueError(
                f"unknown kind {kind!r} of column {column!r}; available: {', '.join(kinds)}"
            )
    return value


# Items of the table of interactions.
INSIDE = "interactions"

Weight = Annotated[float, Field(allow_inf_nan=False)]
Columns = Annotated[dict[str, Kind], BeforeValidator(_known_kinds)]


class Files(Dataset):
    """Your own tables, CSV or Parquet: each one file, a folder of them, or a URI.

    Ids are integers or strings and stay what they are; in CSV a column of plain integers (7, not
    007) has integers. Times are numbers in `timestamp_unit` since 1970 (or any order), ISO
    dates and times, or datetimes; without a zone they are UTC. They are kept in whole seconds,
    after the rows were put in the order that finer times give.

    Attributes:
        interactions: a row for each event.
        items: a row for each item, if there are attributes or titles. Items that are in only one
            of the two tables are fine. "interactions" says that they are columns of that table: of
            an item's rows the last in time counts, of several at that time the one whose values
            come last in order, the title first and then `item_columns` one by one, a missing value
            before all others (with `ties = "rows"` the last row).
        users: the same for users.
        user_id: column of the user ids, in every table.
        item_id: column of the item ids, in every table.
        timestamp: column of the times, or of any order; `timestamp` where that is there, and if it
            is not, interactions have no times: what needs them is left out, and the split is
            random.
        timestamp_unit: of times that are numbers: s, ms, us or ns.
        weight: column of a weight or rating; every interaction weighs 1 when it is not set.
        event: column of the kinds of events, where `events` has any.
        events: weight of each kind of event (`{ view = 0.1, cart = 0.5, buy = 1 }`), multiplied by
            that of the row. One of 0 is left out; one below 0 (`hide`, `return`) hides the item
            from the user from then on: it is no interaction, and never recommended to that user.
            Every event of the table needs a weight. In `[train]` they count as with `weighted`.
        test_events: those that the test and the validation count; all of a weight above 0 by
            default. The others are history all the same.
        title: column of the item table that names an item for people.
        item_columns: kind of each attribute in the item table: category, categories, number, flag,
            text or embedding. An embedding is a list column, or the common start of the names of
            its columns (`clip_text_`).
        user_columns: the same for the user table.
        separator: between categories in one text column.
        delimiter: between the columns of a CSV file.
        encoding: of CSV files.
    """

    name: Literal["files"] = "files"
    interactions: str
    items: str | None = None
    users: str | None = None
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str | None = None
    timestamp_unit: TimeUnit = "s"
    weight: str | None = None
    event: str = "event"
    events: dict[str, Weight] = Field(default_factory=dict)
    test_events: tuple[str, ...] = ()
    title: str | None = None
    item_columns: Columns = Field(default_factory=dict)
    user_columns: Columns = Field(default_factory=dict)
    separator: str = Field(default="|", min_length=1)
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _check(self) -> "Files":
        if (self.item_columns or self.title) and not self.items:
            raise ValueError("item_columns and title are of the item table: set items to its file")
        if self.user_columns and not self.users:
            raise ValueError("user_columns are of the user table: set users to its file")
        for column in ("user_id", "item_id", *(["title"] if self.title != "title" else [])):
            if column in self.item_columns or (column in self.user_columns and column != "title"):
                raise ValueError(
                    f"{column!r} is the name of something else here and cannot be an attribute; "
                    "rename this column in the file"
                )
        return self

    @model_validator(mode="after")
    def _check_events(self) -> "Files":
        positive = [name for name, weight in self.events.items() if weight > 0]
        if not self.events:
            if self.event != "event" or self.test_events:
                raise ValueError(
                    "event and test_events are of kinds of events: give each its weight in "
                    "[data.events]"
                )
        elif not positive:
            raise ValueError(
                f"events: expected a weight above 0 among them, got {dict(self.events)}: none is "
                "left to learn from"
            )
        unknown = [name for name in self.test_events if name not in positive]
        if unknown:
            raise ValueError(
                f"test_events: expected some of {', '.join(positive)}, which have a weight above 0 "
                f"in [data.events], got {', '.join(unknown)}"
            )
        return self

    def read(self) -> Tables:
        """Read, check and convert the files."""
        events = Events(
            self._source(self.interactions),
            self.user_id,
            self.item_id,
            self.timestamp,
            self.timestamp_unit,
            self.weight,
            Kinds(self.event, self.events, self.test_events),
        )
        items = users = None
        if self.items:
            source = self._source(self.interactions if self.items == INSIDE else self.items)
            items = AttributeTable(
                source, self.item_id, self.item_columns, self.title, self.separator
            )
        if self.users:
            source = self._source(self.users)
            users = AttributeTable(source, self.user_id, self.user_columns, None, self.separator)
        return read_tables(events, items, users, self.ties)

    def _source(self, location: str) -> TableFile:
        return TableFile(location, self.delimiter, self.encoding)

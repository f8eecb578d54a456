"""Your own tables: the data set `files`."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from train.core.schema import Kind, Tables
from train.datasets.attributes import AttributeTable
from train.datasets.base import Dataset
from train.datasets.csv_format import CsvFormat, known_encoding
from train.datasets.events import Events
from train.datasets.ids import IdType
from train.datasets.kinds import Kinds
from train.datasets.readers import TableFile
from train.datasets.tables import IdRules, read_tables
from train.datasets.time_checks import TimeUnit
from train.datasets.time_forms import check_format
from train.datasets.times import TimeForm


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

    Of a folder every file is read, `.csv`, `.tsv`, `.txt` (also compressed) or `.parquet`, and
    files that are none are refused. Files and folders whose names begin with `.` or `_` are passed
    over. The names of folders such as `day=2024-01-31` are columns.

    Ids are integers or strings and stay what they are; in CSV a column of plain integers (7, not
    007) has integers. Missing is, in ids, categories and numbers: nothing, and in any case of
    letters `nan`, `none`, `null`, `na`, `n/a`, `#n/a`, `<na>`, `nat`, `undefined` and `\\N`.

    Times are dates and times as usually written, datetimes, or numbers since 1970; without a zone
    they are UTC. They are kept in whole seconds, and interactions in the order that finer times
    give.

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
        timestamp_unit: of times that are numbers: s, ms, us, ns, d (days), or order, where they
            give an order and nothing else. Where it is not set they are seconds, and refused where
            one then lies before 1990 or after tomorrow, unless they count each user's rows.
        timestamp_format: of times, as strptime has it (`%d/%m/%Y %H:%M`, `%Y%m%d`), where they are
            in no usual form.
        weight: column of a weight or rating; every interaction weighs 1 when it is not set.
        event: column of the kinds of events, where `events` has any.
        events: weight of each kind of event (`{ view = 0.1, cart = 0.5, buy = 1 }`), multiplied by
            that of the row. One of 0 is left out; one below 0 (`hide`, `return`) hides the item
            from the user from then on: it is no interaction, and never recommended to that user.
            Every event of the table needs a weight. In `[train]` they count as with `weighted`.
        test_events: those that the test and the validation count; all of a weight above 0 by
            default. The others are history all the same.
        items_id: column of the item ids in the item table, where it has another name there.
        users_id: the same of user ids in the user table.
        id_type: "integer" or "string", where ids are not what they look like; or one of each:
            `{ user_id = "integer", item_id = "string" }`.
        missing_ids: "refuse" rows without a user or an item, or "drop" them.
        title: column of the item table that names an item for people.
        item_columns: kind of each attribute in the item table: category, categories, number, flag,
            text or embedding. An embedding is a list column, or the common start of the names of
            its columns (`clip_text_`).
        user_columns: the same for the user table.
        separator: between categories in one text column.
        delimiter: between the columns of a CSV file; the same as `csv.delimiter`.
        encoding: of CSV files; the same as `csv.encoding`.
        csv: how CSV files are written.
    """

    name: Literal["files"] = "files"
    interactions: str
    items: str | None = None
    users: str | None = None
    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str | None = None
    timestamp_unit: TimeUnit | None = None
    timestamp_format: Annotated[str, AfterValidator(check_format)] | None = None
    weight: str | None = None
    event: str = "event"
    events: dict[str, Weight] = Field(default_factory=dict)
    test_events: tuple[str, ...] = ()
    items_id: str | None = None
    users_id: str | None = None
    id_type: IdType | dict[Literal["user_id", "item_id"], IdType] | None = None
    missing_ids: Literal["refuse", "drop"] = "refuse"
    title: str | None = None
    item_columns: Columns = Field(default_factory=dict)
    user_columns: Columns = Field(default_factory=dict)
    separator: str = Field(default="|", min_length=1)
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: Annotated[str, AfterValidator(known_encoding)] | None = None
    csv: CsvFormat = Field(default_factory=CsvFormat)

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

    @model_validator(mode="after")
    def _check_once(self) -> "Files":
        twice = [
            k
            for k in ("delimiter", "encoding")
            if getattr(self, k) and k in self.csv.model_fields_set
        ]
        if twice:
            raise ValueError(
                f"{twice[0]} is set twice: leave out data.{twice[0]} or data.csv.{twice[0]}"
            )
        if self.timestamp_format and self.timestamp_unit == "order":
            raise ValueError('timestamp_format is of dates, and timestamp_unit = "order" of none')
        if (self.items_id and not self.items) or (self.items_id and self.items == INSIDE):
            raise ValueError("items_id is of the item table: set items to its file")
        if self.users_id and not self.users:
            raise ValueError("users_id is of the user table: set users to its file")
        return self

    def read(self) -> Tables:
        """Read, check and convert the files."""
        events = Events(
            self._source(self.interactions),
            self.user_id,
            self.item_id,
            self.timestamp,
            TimeForm(self.timestamp_unit, self.timestamp_format),
            self.weight,
            Kinds(self.event, self.events, self.test_events),
        )
        items = users = None
        if self.items:
            source = self._source(self.interactions if self.items == INSIDE else self.items)
            items = AttributeTable(
                source,
                self.items_id or self.item_id,
                self.item_columns,
                self.title,
                self.separator,
            )
        if self.users:
            source = self._source(self.users)
            users = AttributeTable(
                source, self.users_id or self.user_id, self.user_columns, None, self.separator
            )
        return read_tables(events, items, users, self.ties, self._id_rules())

    def _id_rules(self) -> IdRules:
        kinds = self.id_type if isinstance(self.id_type, dict) else {}
        both = self.id_type if isinstance(self.id_type, str) else None
        users, items = kinds.get("user_id", both), kinds.get("item_id", both)
        return IdRules(users, items, self.missing_ids == "drop")

    def _source(self, location: str) -> TableFile:
        given = {"delimiter": self.delimiter, "encoding": self.encoding}
        own = {key: value for key, value in given.items() if value}
        return TableFile(location, self.csv.model_copy(update=own))

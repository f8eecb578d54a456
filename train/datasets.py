"""The data sets a run can name. To add one: a class with `read`, and a line in `DATASETS`."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from train import amazon, generated, kion, movielens
from train.download import cached
from train.readers import Source
from train.schema import Kind, Tables
from train.settings import Settings
from train.tables import Events, Side, at_least, read_tables
from train.times import TimeUnit

Share = Annotated[float, Field(ge=0, le=1)]


class Dataset(Settings):
    """A data set and how to get it.

    Attributes:
        min_weight: interactions with a smaller weight (a rating below 4, say) are left out of
            everything; all count when it is not set.
    """

    min_weight: float | None = None

    def load(self) -> Tables:
        """Read the tables, checked and under canonical names.

        Raises:
            OSError: a file is missing or cannot be fetched.
            ValueError: a file holds something else than declared, or nothing is left.
        """
        return at_least(self.read(), self.min_weight)

    def read(self) -> Tables:
        """Read the tables with all interactions."""
        raise NotImplementedError


class MovieLens100k(Dataset):
    """MovieLens-100k: 100,000 ratings of 1,682 films by 943 people, 1997 and 1998.

    Attributes:
        folder: where the file is kept; it is fetched if absent.
        path: a zip in GroupLens's layout to read instead.
    """

    name: Literal["movielens-100k"] = "movielens-100k"
    folder: Path = Path("data")
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables, fetching the file first where needed."""
        return movielens.read_100k(self.path or cached(self.folder, movielens.SOURCES_100K))


class MovieLens1M(Dataset):
    """MovieLens-1M: 1,000,209 ratings of 3,706 films by 6,040 people, 2000 to 2003.

    Attributes:
        folder: where the file is kept; it is fetched if absent.
        path: a zip in GroupLens's layout to read instead.
    """

    name: Literal["movielens-1m"] = "movielens-1m"
    folder: Path = Path("data")
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables, fetching the file first where needed."""
        return movielens.read_1m(self.path or cached(self.folder, movielens.SOURCES_1M))


class MovieLens20M(Dataset):
    """MovieLens-20M: 20,000,263 ratings of 26,744 films by 138,493 people, 1995 to 2015.

    Attributes:
        folder: where the file is kept; it is fetched if absent.
        path: a zip in GroupLens's layout to read instead, this one or a newer one (25M, latest).
    """

    name: Literal["movielens-20m"] = "movielens-20m"
    folder: Path = Path("data")
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables, fetching the file first where needed."""
        return movielens.read_20m(self.path or cached(self.folder, movielens.SOURCES_20M))


class Kion(Dataset):
    """KION: 5,476,251 watches of 15,706 titles by 962,179 people in 2021, in seconds watched.

    Attributes:
        path: `data_original.zip` or the folder in it; it is not fetched.
    """

    name: Literal["kion"] = "kion"
    path: Path | None = None

    def read(self) -> Tables:
        """Read the tables."""
        place = "github.com/irsafilo/KION_DATASET"
        return kion.read(_given(self.path, self.name, "path", "data_original.zip", place))


class Amazon(Dataset):
    """Reviews of one of Amazon's categories, as McAuley's group publishes them.

    Attributes:
        reviews: JSON lines such as `All_Beauty.json.gz`; they are not fetched.
        products: JSON lines such as `meta_All_Beauty.json.gz`; without them items are ids alone.
    """

    name: Literal["amazon"] = "amazon"
    reviews: Path | None = None
    products: Path | None = None

    def read(self) -> Tables:
        """Read the tables."""
        place = "nijianmo.github.io/amazon"
        reviews = _given(self.reviews, self.name, "reviews", "the reviews of a category", place)
        return amazon.read(reviews, self.products)


def _given(path: Path | None, name: str, key: str, file: str, place: str) -> Path:
    if path is None:
        raise ValueError(
            f"{name} is not fetched by itself: get {file} from {place}, and set data.{key} to it"
        )
    return path


def _known_kinds(value: Any) -> Any:
    kinds = get_args(Kind)
    for column, kind in value.items() if isinstance(value, dict) else ():
        if kind not in kinds:
            raise ValueError(
                f"unknown kind {kind!r} of column {column!r}; available: {', '.join(kinds)}"
            )
    return value


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
            of the two tables are fine.
        users: the same for users.
        user_id: column of the user ids, in every table.
        item_id: column of the item ids, in every table.
        timestamp: column of the times.
        timestamp_unit: of times that are numbers: s, ms, us or ns.
        weight: column of a weight or rating; every interaction weighs 1 when it is not set.
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
    timestamp: str = "timestamp"
    timestamp_unit: TimeUnit = "s"
    weight: str | None = None
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

    def read(self) -> Tables:
        """Read, check and convert the files."""
        events = Events(
            self._source(self.interactions),
            self.user_id,
            self.item_id,
            self.timestamp,
            self.timestamp_unit,
            self.weight,
        )
        items = users = None
        if self.items:
            source = self._source(self.items)
            items = Side(source, self.item_id, self.item_columns, self.title, self.separator)
        if self.users:
            source = self._source(self.users)
            users = Side(source, self.user_id, self.user_columns, None, self.separator)
        return read_tables(events, items, users)

    def _source(self, location: str) -> Source:
        return Source(location, self.delimiter, self.encoding)


class Generated(Dataset):
    """A generated data set with a planted structure, the same for the same settings.

    Attributes:
        users: number of users U; the cold ones may have no interaction at all.
        items: number of items I.
        interactions: number of interactions N, each of another pair.
        seed: of all that is drawn.
        tastes: number of latent tastes that items belong to and users have.
        days: length of the time that the interactions spread over.
        zipf: exponent of the power law of popularity; 0 makes all items alike.
        fading_days: days in which an item's popularity falls to 1/e.
        told: probability with which an attribute tells the taste.
        noise: share of interactions from a random taste.
        cold_users: share of users who appear only in the last tenth of the time.
        cold_items: the same for items.
        text_ids: ids like `u7` and `i42` instead of integers.
        embedding: width of an embedding column `image`; 0 for none.
    """

    name: Literal["generated"] = "generated"
    users: int = Field(default=1_000, ge=1)
    items: int = Field(default=500, ge=1)
    interactions: int = Field(default=30_000, ge=1)
    seed: int = Field(default=0, ge=0)
    tastes: int = Field(default=12, ge=1)
    days: int = Field(default=180, ge=1)
    zipf: float = Field(default=1.0, ge=0)
    fading_days: float = Field(default=90.0, gt=0)
    told: Share = 0.6
    noise: Share = 0.1
    cold_users: Share = 0.05
    cold_items: Share = 0.05
    text_ids: bool = False
    embedding: int = Field(default=0, ge=0)

    def read(self) -> Tables:
        """Generate the tables."""
        plan = self.model_dump(exclude={"name", "min_weight"})
        return generated.generate(generated.Plan(**plan))


DATASETS: dict[str, type[Dataset]] = {
    "movielens-100k": MovieLens100k,
    "movielens-1m": MovieLens1M,
    "movielens-20m": MovieLens20M,
    "kion": Kion,
    "amazon": Amazon,
    "files": Files,
    "generated": Generated,
}

"""Base class of the data sets that a run can name."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from train.core.schema import Tables, Ties
from train.core.settings import Settings
from train.datasets.tables import at_least

# Keys of data sets whose values are paths or URIs.
PLACES = ("folder", "path", "interactions", "items", "users", "reviews", "products")


class Dataset(Settings):
    """A data set and how to get it.

    Attributes:
        min_weight: interactions with a smaller weight (a rating below 4, say) are left out of
            everything; all count when it is not set.
        ties: the order of a user's interactions of one time: "hash" by a hash of user and item, the
            same however the rows are sorted; "rows" that of the table's rows, as figures that were
            published for some files need.
    """

    min_weight: float | None = None
    ties: Ties = "hash"

    def load(self) -> Tables:
        """Read the tables, checked and under canonical names.

        Raises:
            OSError: a file is missing or cannot be fetched.
            ValueError: a file holds something else than declared, or nothing is left.
        """
        tables = replace(at_least(self.read(), self.min_weight), ties=self.ties)
        # What reading took is several times what is left of it.
        pa.default_memory_pool().release_unused()
        return tables

    def read(self) -> Tables:
        """Read the tables with all interactions."""
        raise NotImplementedError


def given_path(path: Path | None, name: str, key: str, file: str, place: str) -> Path:
    """Return the path of a data set that is not fetched, or raise ValueError where it is None."""
    if path is None:
        raise ValueError(
            f"{name} is not fetched by itself: get {file} from {place}, and set data.{key} to it"
        )
    return path

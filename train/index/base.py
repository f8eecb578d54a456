"""Stage 1's search: the settings of `[index]`, and the protocol of an index."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from train.core.ragged import Array, Ragged
from train.core.settings import Settings

# Up to so many items exact search of users' queries takes 2 ms at most (measured by
# `tests.benchmarks.index_sizes`) and misses nothing. A rule of sizes and no stopwatch, so that a
# command has one result on every machine.
EXACT_ITEMS = 50_000
# Items that exact search looks at in the time that one more of `ef` takes HNSW: some 160 for a lone
# query, 290 in batches of 16 (200,000 items of width 64, the same benchmark).
EF_ITEMS = 200


class IndexSettings(Settings):
    """Settings of stage 1's search by inner products.

    Attributes:
        kind: the search to use; `auto` searches up to 50,000 items exactly, and more by HNSW where
            it has the recall at an `ef` of at most a 200th of the items, beyond which exact search
            is faster, and hnswlib is installed.
        m: links of a node on each layer.
        ef_construction: breadth of the search when nodes are linked.
        recall: of HNSW against exact search, at least, for users' queries; `ef` is raised until it
            is reached.
        recall_k: the k of this recall; as many as there are candidates where none is given.
        sample: users whose queries recall and speed are measured on.
    """

    kind: Literal["auto", "hnsw", "exact"] = "auto"
    m: int = Field(default=16, ge=2, le=128)
    ef_construction: int = Field(default=200, ge=8)
    recall: float = Field(default=0.99, gt=0, le=1)
    recall_k: int | None = Field(default=None, ge=1)
    sample: int = Field(default=500, ge=1)


class Index(Protocol):
    """Top-k search over the item vectors of a catalogue, by the scores of the towers."""

    @property
    def report(self) -> Mapping[str, Any]:
        """Measurements for the manifest: `used` names the search, `count` and `width` its size."""

    @property
    def tunable(self) -> bool:
        """Whether recall can be traded for speed, so that there are settings to choose."""

    def search(self, vectors: Array, k: int, exclude: Ragged | None = None) -> tuple[Array, Array]:
        """Return the `k` best items of every query: always k, while the catalogue has them.

        Args:
            vectors: of users, float32 `[B, d]`.
            k: how many.
            exclude: `B` rows of items that are not to be found.

        Returns:
            items int32 `[B, k]`, best first, equal ones by item, -1 after the last; and their
            scores, float32 `[B, k]`, -inf after the last.

        Raises:
            ValueError: `k` is below 1 or the vectors have another width.
        """

    def pair_scores(self, users: Array, items: Array) -> Array:
        """Return the score of each user vector `[P, d]` with the item vector of its row, `[P]`."""

    def variants(self, k: int) -> Sequence[tuple[int, "Index"]]:
        """Return the same index at every `ef` worth measuring for `k` items, rising.

        Exact search comes last, with an `ef` of 0. Empty where nothing can be tuned.
        """

    def within(self, items: Array) -> "Index":
        """Return the search over some items of the catalogue, ascending int32 `[m]`."""

    def save(self, folder: Path) -> None:
        """Write the index's own file; vectors, catalogue and report are stored by the bundle."""


def check_search(width: int, vectors: Array, k: int) -> None:
    """Check the arguments of a search over vectors of this width.

    Raises:
        ValueError: `k` is below 1 or the vectors have another width.
    """
    if k < 1 or vectors.ndim != 2 or vectors.shape[1] != width:
        raise ValueError(
            f"search needs k >= 1 and vectors [B, {width}], got k={k} and {list(vectors.shape)}"
        )

"""Sources that propose what is popular within a category of items, or a segment of users."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.snapshot import Snapshot
from train.sources.base import Source, SourceSettings
from train.sources.grouped_lists import GroupedListSource


class CategoryPopularitySource(SourceSettings):
    """The most popular items of the categories that a history is of.

    An item's score is the sum over categories c of `P(c | history) P(item | c)`: the share of the
    category among those of the history's items, and that of the item among the interactions with
    the category. Every value of a column of categories is one; items and requests without any have
    no score.
    """

    name: Literal["category_popularity"] = "category_popularity"

    def lacks(self, known: Snapshot) -> str | None:
        """Return that items have no categories, where that is so."""
        if known.inputs.item_features.vocabulary:
            return None
        return "items have no categories, which data.item_columns names columns of"

    def source(self, known: Snapshot, seed: int) -> Source:
        """Count the interactions with the items of each category."""
        items, size = known.inputs.item_features, len(known.catalogue)
        item, group = items.categories.rows, items.categories.values
        counts = _counted(group, item, known.statistics.item_count[item], items, size)
        lists = _lists(counts, np.zeros(size), smoothing=0)
        return _over(known, items.categories, True, lists)


class SegmentPopularitySource(SourceSettings):
    """The items that are the most popular among users with the same attributes.

    An item's score is the mean over a user's segments s of `(n_si + smoothing p_i) / (n_s +
    smoothing)`: with n_si interactions of the segment's users with the item, n_s with any, and p_i
    the item's share of all interactions. Every value of a column of categories of users is a
    segment; a user without any is given what is popular among all.

    Attributes:
        smoothing: interactions of all users that are added to those of a segment, for small ones
            say little (Dirichlet prior).
    """

    name: Literal["segment_popularity"] = "segment_popularity"
    smoothing: float = Field(default=100.0, ge=0)

    def lacks(self, known: Snapshot) -> str | None:
        """Return that users have no categories, where that is so."""
        if known.inputs.user_features.vocabulary:
            return None
        return "users have no categories, which data.user_columns names columns of"

    def source(self, known: Snapshot, seed: int) -> Source:
        """Count the interactions of the users of each segment."""
        users, events = known.inputs.user_features, known.interactions
        of = users.categories.take(events.user)
        ones, size = np.ones(len(of.values)), len(known.catalogue)
        counts = _counted(of.values, events.item[of.rows], ones, users, size)
        overall = known.statistics.item_count / max(known.statistics.item_count.sum(), 1)
        lists = _lists(counts, overall, self.smoothing)
        return _over(known, users.categories, False, lists)


def _counted(group: Array, item: Array, count: Array, of: Features, n_items: int) -> Any:
    """Return the interactions of each group with each item, CSR float64 `[G, I]`."""
    from scipy.sparse import csr_array

    shape = len(of.vocabulary), n_items
    counts = csr_array((count.astype(np.float64), (group, item)), shape=shape)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts


def _lists(counts: Any, overall: Array, smoothing: float) -> dict[str, Array]:
    """Return the shares of the items in counts `[G, I]`, mixed with `smoothing` overall ones."""
    total = np.maximum(counts.sum(axis=1) + smoothing, 1e-12)
    return {
        "values": (counts.data / np.repeat(total, np.diff(counts.indptr))).astype(np.float32),
        "columns": counts.indices.astype(np.int32),
        "offsets": counts.indptr.astype(np.int64),
        "rest": (smoothing / total).astype(np.float32),
        "overall": overall.astype(np.float32),
    }


def _over(
    known: Snapshot, groups: Ragged, of_history: bool, lists: dict[str, Array]
) -> GroupedListSource:
    return GroupedListSource(
        **lists,
        groups=groups.values,
        members=groups.offsets,
        of_history=np.array(of_history),
        catalogue=known.catalogue,
    )

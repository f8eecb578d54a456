"""Sources that mix the lists of groups: popular within categories, or within segments of users.

Shapes: G groups, I items, B requests, N members, which are users or items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from train.core.ragged import Array, Ragged
from train.index.candidates import Candidates, Queries
from train.sources.sums import Sums, best_of_sums, in_blocks, picked_of_sums


@dataclass(frozen=True)
class GroupedListSource:
    """A list of scores a group; a request's scores are the mean of those of its groups.

    The groups of a request are those that its user is in, or those that the items of its history
    are in, each as often. A request without groups has the scores of `overall`.

    Attributes:
        values: scores of the items of each group, float32 `[E]`.
        columns: the item that each is of, int32 `[E]`.
        offsets: of each group's items, int64 `[G + 1]`.
        rest: what a group adds of `overall` to the score of every item, float32 `[G]`.
        overall: scores in no group, float32 `[I]`.
        groups: of each member, int32.
        members: offsets of each member's groups, int64 `[N + 1]`.
        of_history: whether members are items, those of the history, else users, bool `[]`.
        catalogue: items that may be proposed, bool `[I]`.
    """

    values: Array
    columns: Array
    offsets: Array
    rest: Array
    overall: Array
    groups: Array
    members: Array
    of_history: Array
    catalogue: Array

    shape: ClassVar[str] = "grouped_list"

    @property
    def reads_attributes(self) -> bool:
        """Whether groups are those of users."""
        return not self.of_history

    def candidates(self, requests: Queries, count: int) -> Candidates:
        """Return the items with the greatest mean scores; none of score 0 is a candidate."""
        return best_of_sums(self._blocks(requests), requests, self._outside, count)

    def score(self, requests: Queries, items: Array) -> Array:
        """Return the mean scores of items `[B, C]`, float32 `[B, C]`."""
        return picked_of_sums(self._blocks(requests), items)

    def within(self, mask: Array) -> "GroupedListSource":
        """Return the source that proposes some of its items alone, bool `[I]`."""
        return replace(self, catalogue=self.catalogue & mask)

    def arrays(self) -> Mapping[str, Array]:
        """Return every array by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _outside(self) -> Array:
        return np.flatnonzero(~self.catalogue)

    @cached_property
    def _lists(self) -> Any:
        from scipy.sparse import csr_array

        shape = len(self.rest), len(self.catalogue)
        return csr_array((self.values, self.columns, self.offsets), shape=shape)

    def _blocks(self, requests: Queries) -> Sums:
        """Yield rows `[b]` and their scores, float32 `[b, I]`: in the order of groups, always."""
        for rows in in_blocks(len(requests.user), len(self.catalogue)):
            shares = self._shares(requests.take(rows))
            rest = np.asarray(shares @ self.rest)
            rest[np.diff(shares.indptr) == 0] = 1
            yield rows, (shares @ self._lists).toarray() + rest[:, None] * self.overall

    def _shares(self, requests: Queries) -> Any:
        """Return the share that each group has of a request, CSR float32 `[b, G]`."""
        from scipy.sparse import csr_array

        within = Ragged(self.groups, self.members)
        rows, members = np.arange(len(requests.user)), requests.user
        if self.of_history:
            rows, members = requests.history.rows, requests.history.values
        if requests.attributes is not None and not self.of_history:
            found = requests.attributes.categories
        else:
            found = within.take(members)
        shape = len(requests.user), len(self.rest)
        ones = np.ones(len(found.values), np.float32)
        counts = csr_array((ones, (rows[found.rows], found.values)), shape=shape)
        counts.sum_duplicates()
        total = np.maximum(counts.sum(axis=1), 1)
        counts.data /= np.repeat(total, np.diff(counts.indptr))
        return counts

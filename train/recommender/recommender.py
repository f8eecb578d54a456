"""The recommender: everything that recommending needs, evaluated, stored, opened and served."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Seen
from train.data.columns import Columns
from train.data.encoded import Encoded
from train.data.encoders import Encoder
from train.data.ids import IdMap
from train.data.linear_score import LinearModel
from train.data.repeats import Repeats
from train.data.snapshot import Snapshot
from train.data.statistics import Statistics
from train.index.base import Index
from train.rerankers.base import Reranker
from train.rerankers.features import FeatureInputs
from train.sources.base import Source
from train.sources.lists import ListSource

CANDIDATES = 200
# The source whose candidates are searched for by the vectors of the towers.
TOWER = "tower"
STAGE_1, BOTH_STAGES = "stage_1", "both_stages"
Encode = Callable[[Array, Ragged, Features | None], Array]
"""From user indices int32 `[B]` (-1 unknown), histories and, if any came, attributes of B rows to
vectors float32 `[B, d]`."""


@dataclass(frozen=True)
class Recommender:
    """Both stages in memory, with what was known when they were fitted.

    The driver builds it, evaluation measures it, a bundle stores it, serving and exports answer
    from it.

    Attributes:
        users: user ids and their indices, U of them.
        items: item ids and their indices, I of them.
        titles: strings `[I]` with nulls, or None.
        user_vectors: float32 `[U, d]`.
        item_vectors: float32 `[I, d]`.
        catalogue: the items that may be recommended, bool `[I]`.
        histories: items of each user, oldest first, U rows.
        statistics: of items and users, as of the moment of the histories.
        user_features: encoded attributes of the users.
        item_features: encoded attributes of the items.
        index: search over `item_vectors`; exhaustive where these are halves of a pair's score.
        reranker: stage 2, or None.
        linear_score: a fitted model, if any, whose score is one more feature of candidates.
        sources: fitted candidate sources by name, beside the towers.
        quotas: the sources that candidates are merged from, in the order of their bits, and how
            many each proposes; None for as many as there are candidates.
        served: the order that answers have: `stage_1` (the fusion of the sources), `both_stages`,
            or that of one of the sources.
        encode: vectors of users from histories that come with a request; None takes the mean of
            the history's item vectors.
        added: elements at the end of vectors that a score adds to the product of the others.
        candidates: how many candidates stage 1 hands to stage 2, as many as the reranker was
            fitted to.
        seen: whether items of the history are left out ("exclude"), are candidates like others
            ("allow"), or are the only ones ("only").
        repeats: what users had before, where seen items may be recommended.
        hidden: items that are never recommended to each user, U rows; None where there are none.
        columns: of the items, as they were declared, for filters and answers; none in bundles of
            before format 8.
        user_encoder: encodes attributes of users that come with a request.
        towers_read_attributes: whether the vectors of users depend on their attributes.
        version: of the bundle that it was opened from; empty before it is stored.
    """

    users: IdMap
    items: IdMap
    titles: pa.Array | None
    user_vectors: Array
    item_vectors: Array
    catalogue: Array
    histories: Ragged
    statistics: Statistics
    user_features: Features
    item_features: Features
    index: Index
    reranker: Reranker | None = None
    linear_score: LinearModel = field(default_factory=LinearModel.none)
    sources: Mapping[str, Source] = field(default_factory=dict)
    quotas: Mapping[str, int | None] = field(default_factory=lambda: {TOWER: None})
    served: str = BOTH_STAGES
    encode: Encode | None = None
    added: int = 0
    candidates: int = CANDIDATES
    seen: Seen = "exclude"
    repeats: Repeats | None = None
    hidden: Ragged | None = None
    columns: Columns = field(default_factory=Columns)
    user_encoder: Encoder | None = None
    towers_read_attributes: bool = False
    version: str = ""

    def __post_init__(self) -> None:
        """Check the number of candidates, and that what is proposed and served is there."""
        if self.candidates < 1:
            raise ValueError(f"candidates: expected at least 1, got {self.candidates}")
        missing = [name for name in self.quotas if name not in (TOWER, *self.sources)]
        if missing or not self.quotas:
            raise ValueError(
                f"sources: expected one or more of {', '.join((TOWER, *self.sources))}, got "
                f"{', '.join(self.quotas) or 'none'}"
            )
        if self.served not in (*self.quotas, STAGE_1, BOTH_STAGES):
            raise ValueError(
                f"served: expected {STAGE_1}, {BOTH_STAGES} or one of {', '.join(self.quotas)}, "
                f"got {self.served}"
            )

    @classmethod
    def over(
        cls,
        data: Encoded,
        known: Snapshot,
        vectors: tuple[Array, Array],
        index: Index,
        **rest: Any,
    ) -> "Recommender":
        """Return stage 1 over a snapshot.

        Args:
            data: ids, titles and attributes.
            known: histories, statistics, catalogue and hidden items.
            vectors: of users `[U, d]` and items `[I, d]`.
            index: over the vectors of the items.
            rest: further fields.
        """
        return cls(
            users=data.users,
            items=data.items,
            titles=data.titles,
            user_vectors=vectors[0],
            item_vectors=vectors[1],
            catalogue=known.catalogue,
            histories=known.histories,
            statistics=known.statistics,
            linear_score=known.linear_score,
            user_features=data.user_features,
            item_features=data.item_features,
            index=index,
            hidden=known.hidden if len(known.hidden.values) else None,
            columns=data.item_columns,
            user_encoder=data.user_encoder,
            **rest,
        )

    @property
    def reranks(self) -> bool:
        """Whether the second stage is there and orders the answers."""
        return self.reranker is not None and self.served == BOTH_STAGES

    @property
    def reads_attributes(self) -> bool:
        """Whether what is served depends on attributes of users."""
        reranker = self.reranker if self.reranks else None
        columns = self.user_features.dense.shape[1]
        by_stage_two = reranker is not None and reranker.reads_users and columns > 0
        return by_stage_two or any(map(self.source_reads_attributes, self.proposing))

    def source_reads_attributes(self, name: str) -> bool:
        """Whether what a source proposes depends on attributes of users."""
        if name == TOWER:
            return self.towers_read_attributes
        return self.sources[name].reads_attributes

    @property
    def proposing(self) -> Mapping[str, int | None]:
        """Quotas of the sources that candidates of answers come from."""
        return {self.served: None} if self.served in self.quotas else self.quotas

    @property
    def limits(self) -> Mapping[str, int]:
        """Quotas of all sources as numbers."""
        of = self.quotas.items()
        return {name: self.candidates if quota is None else quota for name, quota in of}

    @property
    def directions(self) -> Array:
        """Item vectors without the elements that scores add, to compare items by, `[I, w]`."""
        return self.item_vectors[:, : self.item_vectors.shape[1] - self.added]

    @cached_property
    def lengths(self) -> Array:
        """Of the directions, float32 `[I]`."""
        lengths: Array = np.linalg.norm(self.directions, axis=1)
        return lengths

    @cached_property
    def described(self) -> FeatureInputs:
        """The tables that candidate features look up, computed once."""
        return FeatureInputs(
            item_vectors=self.directions,
            item_features=self.item_features,
            user_features=self.user_features,
            statistics=self.statistics,
            linear_score=self.linear_score,
            sources=tuple(self.quotas) if len(self.quotas) > 1 else (),
            repeats=self.repeats,
        )

    def named(self, items: Array) -> tuple[list[Any], list[str | None]]:
        """Return the ids and the titles of items `[n]`; None where there is no title."""
        places = pa.array(items)
        titles = None if self.titles is None else self.titles.take(places).to_pylist()
        return self.items.ids.take(places).to_pylist(), titles or [None] * len(items)

    @cached_property
    def popular(self) -> Array:
        """Items of the catalogue by recent popularity, the most popular first."""
        order = self.statistics.popular(recent=True)
        return np.asarray(order[self.catalogue[order]])

    @cached_property
    def fallback(self) -> ListSource:
        """The items of `popular`, for requests that the sources have too few items for."""
        places = np.zeros(len(self.items), dtype=np.float32)
        places[self.popular] = -np.arange(len(self.popular))
        return ListSource(places, self.catalogue)

    @cached_property
    def popularity(self) -> Array:
        """Counts that `popular` orders by: those of the longest recent window, `[I]`."""
        known = self.statistics
        if not len(known.recent_days):
            return known.item_count
        return np.asarray(known.item_recent[int(np.argmax(known.recent_days))])

    def encode_users(
        self, user: Array, history: Ragged, attributes: Features | None = None
    ) -> Array:
        """Return the vectors of users with what came with a request, float32 `[B, d]`.

        Args:
            user: int32 `[B]`, -1 for a user unknown at training time.
            history: B rows of items.
            attributes: of each user, if any came.
        """
        if self.encode is not None:
            return self.encode(user, history, attributes)
        sums: Array = np.zeros((len(user), self.item_vectors.shape[1]), dtype=np.float32)
        np.add.at(sums, history.rows, self.item_vectors[history.values])
        sums /= np.maximum(history.lengths, 1)[:, None]
        return sums

"""Features of candidates: one function for training and serving."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.linear_score import LinearModel
from train.data.repeats import Repeats
from train.data.statistics import Statistics
from train.index.candidates import Candidates, Queries
from train.rerankers.feature_tables import MAX_COLUMNS, FeatureTables, item_names
from train.rerankers.repeat_features import REPEATS, repeat_features
from train.rerankers.scaling import standardized_by_request
from train.rerankers.source_features import SOURCE, source_features

# Newest items of a history that are compared with candidates; those of the maximum similarity.
HISTORY = 50
RECENT = 10
# Of a history item's weight, from each to the one before it.
DECAY = 0.9

RETRIEVAL = ("retrieval_score", "retrieval_gap", "retrieval_rank")

USER = ("user_activity", "user_idle_days", "history_popularity")
# Of what has times alone.
IDLE = "user_idle_days"

HISTORIES = (
    "similarity_mean",
    "similarity_max",
    "similarity_last",
    "neighbours",
    "neighbours_recent",
    "popularity_gap",
)

LINEAR = ("linear_score",)

CATEGORIES = ("category_share", "category_max", "category_cosine")


@dataclass(frozen=True)
class FeatureInputs:
    """Items and users that candidate features are computed from, as of the time of the requests.

    Attributes:
        item_vectors: float32 `[I, d]`.
        item_features: encoded attributes of the `I` items.
        user_features: encoded attributes of the `U` users.
        statistics: of both.
        linear_score: a fitted model, if any, whose score is one more feature.
        sources: names of the candidate sources, S of them, where there is more than one.
        repeats: what users had before, where they may be recommended it again.
    """

    item_vectors: Array
    item_features: Features
    user_features: Features
    statistics: Statistics
    linear_score: LinearModel = field(default_factory=LinearModel.none)
    sources: tuple[str, ...] = ()
    repeats: Repeats | None = None

    @cached_property
    def tables(self) -> FeatureTables:
        """Tables that are computed once for all requests."""
        return FeatureTables.of(
            self.item_vectors,
            self.item_features,
            self.user_features,
            self.statistics,
            self.linear_score,
        )


def feature_names(inputs: FeatureInputs) -> tuple[str, ...]:
    """Return the names of the columns of `candidate_features`, `[F]`."""
    days = tuple(inputs.statistics.recent_days.tolist())
    of = inputs.item_features, inputs.user_features, days, bool(inputs.linear_score)
    return names_of(*of, inputs.sources, inputs.repeats is not None)


def names_of(
    items: Features,
    users: Features,
    recent_days: tuple[int, ...],
    linear: bool,
    sources: tuple[str, ...] = (),
    repeats: bool = False,
) -> tuple[str, ...]:
    """Return the names of the features of candidates, `[F]`, before there are any.

    Args:
        items: their attributes.
        users: likewise.
        recent_days: lengths of the statistics' recent windows; without one, interactions have no
            times, and nothing is described by these.
        linear: whether there is a linear score.
        sources: names of the candidate sources, where there is more than one.
        repeats: whether what the user had before is described.
    """
    columns = items.dense_names[:MAX_COLUMNS]
    return (
        *RETRIEVAL,
        *item_names(recent_days, items),
        *(name for name in USER if recent_days or name != IDLE),
        *(f"user_{name}" for name in users.dense_names[:MAX_COLUMNS]),
        *HISTORIES,
        *(LINEAR if linear else ()),
        *(CATEGORIES if items.vocabulary else ()),
        *(("attribute_cosine",) if columns else ()),
        *(f"gap_{name}" for name in columns),
        *(REPEATS if repeats else ()),
        *(f"source_{name}_{of}" for name in sources for of in SOURCE),
    )


def candidate_features(inputs: FeatureInputs, queries: Queries, candidates: Candidates) -> Array:
    """Describe every candidate of every request: float32 `[R, F]`, `R = B * C`, in Fortran order.

    A row depends on its own request alone, whatever else is in the batch, and on nothing at or
    after the time of the statistics. Rows of padding (item -1) hold no meaning.

    Args:
        inputs: items and users, as of the time of the requests.
        queries: `B` of them.
        candidates: `[B, C]`.
    """
    expected = len(inputs.sources)
    assert expected == (0 if candidates.by_source is None else len(candidates.by_source))
    batch = _Batch.of(inputs.tables, queries, candidates)
    out = np.empty(
        (len(feature_names(inputs)), *candidates.items.shape),
        dtype=np.float32,
    )
    at = 0
    for part in (_retrieval, _item, _user, _history, _linear, _category, _attribute):
        at += part(inputs.tables, batch, out[at:])
    at += repeat_features(inputs.repeats, queries, candidates.items, out[at:])
    source_features(candidates, out[at:])
    return out.reshape(len(out), -1).T


@dataclass(frozen=True)
class _Batch:
    """The requests of one call.

    Attributes:
        user: int32 `[B]`.
        user_columns: their dense attributes, float32 `[B, A']`.
        whole_history: B rows of items, oldest first.
        activity: its length, int64 `[B]`.
        history: its newest items, -1 before the first, int32 `[B, HISTORY]`.
        history_length: number of these, at least 1, float32 `[B, 1]`.
        popularity: their mean log popularity, float32 `[B, 1]`.
        items: the candidates, int32 `[B, C]`.
        scores: stage 1's, 0 for padding, float32 `[B, C]`.
    """

    user: Array
    user_columns: Array
    whole_history: Ragged
    activity: Array
    history: Array
    history_length: Array
    popularity: Array
    items: Array
    scores: Array

    @classmethod
    def of(cls, tables: FeatureTables, queries: Queries, candidates: Candidates) -> "_Batch":
        history = queries.history.last(HISTORY)
        lengths = queries.history.lengths
        history_length = np.clip(lengths, 1, HISTORY).astype(np.float32)[:, None]
        return cls(
            user=queries.user,
            user_columns=_user_columns(tables, queries),
            whole_history=queries.history,
            activity=lengths,
            history=history,
            history_length=history_length,
            popularity=tables.popularity.take(history).sum(axis=1, keepdims=True) / history_length,
            items=candidates.items,
            scores=np.where(candidates.items >= 0, candidates.scores, 0),
        )


def _user_columns(tables: FeatureTables, queries: Queries) -> Array:
    if queries.attributes is not None:
        return queries.attributes.dense[:, :MAX_COLUMNS]
    found = np.zeros((len(queries.user), tables.user_columns.shape[1]), np.float32)
    known = queries.user >= 0
    found[known] = tables.user_columns[queries.user[known]]
    return found


def _retrieval(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    out[0] = batch.scores
    np.subtract(batch.scores[:, :1], batch.scores, out=out[1])
    out[2] = np.log1p(np.arange(batch.scores.shape[1]))
    return 3


def _item(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    count = len(tables.item)
    np.take(tables.item, batch.items, axis=1, out=out[:count], mode="wrap")
    return count


def _user(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    columns = [np.log1p(batch.activity), batch.popularity[:, 0]]
    if tables.idle is not None:
        columns.insert(1, tables.idle[batch.user])
    columns += list(batch.user_columns.T)
    out[: len(columns)] = np.array(columns)[:, :, None]
    return len(columns)


def _history(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    units = tables.units(batch.history)
    mean = units.sum(axis=1, keepdims=True) / batch.history_length[:, :, None]
    profile = np.concatenate([mean, units[:, -RECENT:]], axis=1)
    # Both operands in C order, and the small axis in front for the maximum: 3 times as fast.
    similar = tables.units(batch.items) @ profile.transpose(0, 2, 1).copy()
    planes = similar.transpose(2, 0, 1).copy()
    out[0] = planes[0]
    np.max(planes[1:], axis=0, out=out[1])
    out[2] = planes[-1]
    _together(tables, batch, out[3:5])
    np.subtract(tables.popularity.take(batch.items), batch.popularity, out=out[5])
    return 6


def _together(tables: FeatureTables, batch: _Batch, out: Array) -> None:
    """Sum, for each candidate, its weights as a neighbour of the items of the history.

    `place` has for every item its place among the request's candidates, from 1, or 0 for none.
    """
    rows, width = batch.items.shape
    steps, size = batch.history.shape[1], len(tables.neighbours) + 1
    base = np.arange(rows)[:, None] * size
    place = np.zeros(rows * size, dtype=np.min_scalar_type(width))
    place[base + batch.items % size] = np.arange(1, width + 1)
    neighbours = tables.neighbours.take(batch.history, axis=0) + base[:, :, None]
    neighbour_place = place.take(neighbours)
    neighbour_place[batch.history < 0] = 0
    neighbour_place = neighbour_place.ravel()
    hit = np.flatnonzero(neighbour_place != 0)
    query_step = hit // tables.neighbours.shape[1]
    cell = query_step // steps * width + neighbour_place[hit] - 1
    weight = tables.weights.take(batch.history, axis=0).ravel()[hit]
    fade = DECAY ** np.arange(steps - 1, -1, -1)
    out[0] = np.bincount(cell, weight, rows * width).reshape(rows, width)
    faded = weight * fade[query_step % steps]
    out[1] = np.bincount(cell, faded, rows * width).reshape(rows, width)


def _linear(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    model = tables.linear_score
    if not model:
        return 0
    users = model.users(batch.user, batch.whole_history)
    # Not a product of matrices: so small a one is slower in BLAS's threads.
    scores = np.einsum("bcr,br->bc", model.decode.take(batch.items, axis=0), users)
    out[0] = standardized_by_request(scores, batch.items >= 0)
    return 1


def _category(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    size = len(tables.code_weights)
    if size == 1:
        return 0
    rows = len(batch.history)
    base = np.arange(rows)[:, None] * size
    codes = tables.codes.take(batch.history, axis=1) + base
    counts = np.bincount(codes.ravel(), minlength=rows * size).reshape(rows, size)
    share = counts.astype(np.float32) / batch.history_length
    share[:, -1] = 0
    weighted = share * tables.code_weights
    norm = np.sqrt((weighted**2).sum(axis=1, keepdims=True))
    weighted *= tables.code_weights / np.maximum(norm, 1e-6)
    out[:3] = 0
    for codes in tables.codes:
        cell = codes.take(batch.items, mode="wrap") + base
        shares = share.take(cell)
        out[0] += shares
        np.maximum(out[1], shares, out=out[1])
        out[2] += weighted.take(cell)
    out[2] /= tables.code_norms.take(batch.items, mode="wrap")
    return 3


def _attribute(tables: FeatureTables, batch: _Batch, out: Array) -> int:
    width = len(tables.columns)
    if not width:
        return 0
    # In float64, where numbers that cancel leave nothing that the floor below would not swallow.
    total = tables.columns.take(batch.history, axis=1).sum(axis=2, dtype=np.float64)
    taste = (total / batch.history_length.T).astype(np.float32)
    columns = np.take(tables.columns, batch.items, axis=1, mode="wrap")
    norms = np.sqrt((taste**2).sum(axis=0))[:, None] * tables.column_norms.take(batch.items)
    np.divide((columns * taste[:, :, None]).sum(axis=0), np.maximum(norms, 1e-6), out=out[0])
    np.abs(np.subtract(columns, taste[:, :, None], out=columns), out=out[1 : 1 + width])
    return 1 + width

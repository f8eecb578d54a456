"""Tables of the candidate features that are computed once, for all requests."""

from dataclasses import dataclass, replace

import numpy as np

from train.core.features import Features
from train.core.ragged import Array
from train.data.linear_score import LinearModel
from train.data.statistics import DAY, Statistics

# Categories of an item, and dense attributes of each side, that are read; a request's time and a
# reranker's features grow with both.
MAX_CODES = 8
MAX_COLUMNS = 16


@dataclass(frozen=True)
class FeatureTables:
    """Rows of items, each table with one more row of zeros that index -1 picks.

    Attributes:
        item: the features of an item alone, float32 `[S, I + 1]`.
        popularity: log popularity, float32 `[I + 1]`.
        units: item vectors of length 1, float32 `[I + 1, d]`.
        neighbours, weights: of the statistics, `[I + 1, K]`.
        codes: categories, `V` for none, int32 `[M, I + 1]`.
        code_weights: inverse document frequency, 0 for none, float32 `[V + 1]`.
        code_norms: of an item's weighted categories, at least 1e-6, float32 `[I + 1]`.
        columns: dense attributes of items, float32 `[A, I + 1]`.
        column_norms: of these, float32 `[I + 1]`.
        user_columns: dense attributes of users, float32 `[U + 1, A']`.
        idle: log days since a user's last interaction, float32 `[U + 1]`; None where interactions
            have no times.
        linear_score: the model of the linear score; `decode` has one more row, too.
    """

    item: Array
    popularity: Array
    units: Array
    neighbours: Array
    weights: Array
    codes: Array
    code_weights: Array
    code_norms: Array
    columns: Array
    column_norms: Array
    user_columns: Array
    idle: Array | None
    linear_score: LinearModel

    @classmethod
    def of(
        cls,
        item_vectors: Array,
        items: Features,
        users: Features,
        statistics: Statistics,
        linear_score: LinearModel,
    ) -> "FeatureTables":
        """Build from item vectors `[I, d]`, both sides' attributes, statistics and linear score."""
        described = _described(statistics)
        columns = items.dense[:, :MAX_COLUMNS]
        codes, code_weights = _coded(items)
        norms = np.sqrt((code_weights[codes] ** 2).sum(axis=0))
        return cls(
            item=_padded(np.array([*described, *columns.T]).T).T.copy(),
            popularity=_padded(described[0]),
            units=_padded(_unit(item_vectors)),
            neighbours=_padded(statistics.neighbours),
            weights=_padded(statistics.neighbour_weights),
            codes=codes,
            code_weights=code_weights,
            code_norms=np.maximum(norms, 1e-6),
            columns=_padded(columns).T.copy(),
            column_norms=_padded(np.linalg.norm(columns, axis=1)),
            user_columns=_padded(users.dense[:, :MAX_COLUMNS]),
            idle=_idle(statistics),
            linear_score=replace(linear_score, decode=_padded(linear_score.decode)),
        )


def item_names(recent_days: tuple[int, ...], items: Features) -> tuple[str, ...]:
    """Return the names of the features of an item alone, `[S]`."""
    return (
        "popularity",
        *(f"popularity_{days}d" for days in recent_days),
        *(f"trend_{days}d" for days in recent_days),
        "popularity_rank",
        *(("item_age", "item_idle_days") if recent_days else ()),
        *(f"item_{name}" for name in items.dense_names[:MAX_COLUMNS]),
    )


def _described(statistics: Statistics) -> list[Array]:
    """Return popularity and recency of each item; counts are relative to the mean item's."""
    total = _relative(statistics.item_count)
    recent = [_relative(counts) for counts in statistics.item_recent]
    rank = np.empty(len(total))
    rank[statistics.popular(recent=True)] = np.arange(len(total))
    times = (statistics.item_first, statistics.item_last) if statistics.timed else ()
    return [
        np.log1p(total),
        *(np.log1p(counts) for counts in recent),
        *(np.log((counts + 0.1) / (total + 0.1)) for counts in recent),
        np.log1p(rank),
        *(_log_days(statistics.as_of - time) for time in times),
    ]


def _idle(statistics: Statistics) -> Array | None:
    if not statistics.timed:
        return None
    return _padded(_log_days(statistics.as_of - statistics.user_last))


def _relative(counts: Array) -> Array:
    return counts / max(float(counts.mean()), 1e-12) if len(counts) else counts


def _log_days(seconds: Array) -> Array:
    return np.log1p(np.maximum(seconds, 0) / DAY).astype(np.float32)


def _unit(vectors: Array) -> Array:
    units: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return units


def _padded(table: Array) -> Array:
    kind = np.int32 if np.issubdtype(table.dtype, np.integer) else np.float32
    return np.concatenate([table, np.zeros((1, *table.shape[1:]))]).astype(kind)


def _coded(items: Features) -> tuple[Array, Array]:
    """Return the first categories of each item [M, I + 1] and the weight of each one [V + 1]."""
    codes, size = items.categories, len(items.vocabulary)
    width = min(int(codes.lengths.max(initial=1)), MAX_CODES) or 1
    table = np.full((width, len(codes) + 1), size, dtype=np.int32)
    place = np.arange(len(codes.values)) - codes.offsets[codes.rows]
    kept = place < width
    table[place[kept], codes.rows[kept]] = codes.values[kept]
    frequency = np.bincount(codes.values, minlength=size)
    weights = np.log((len(codes) + 1) / (frequency + 1)) + 0.1
    return table, np.append(weights, 0).astype(np.float32)

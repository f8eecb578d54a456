"""Tables of the candidate features that are computed once, for all requests.

What a bundle has as it is looked up here, vectors and neighbours, is not copied: it is mapped, and
in memory once, however many replicas a machine has.
"""

from dataclasses import dataclass

import numpy as np

from train.core.features import Features
from train.core.ragged import Array
from train.data.linear_score import LinearModel
from train.data.statistics import DAY, Statistics

# Categories of an item, and dense attributes of each side, that are read; a request's time and a
# reranker's features grow with both.
MAX_CODES = 8
MAX_COLUMNS = 16
# Items at a time where something is computed of all of them.
BLOCK = 2**16


@dataclass(frozen=True)
class FeatureTables:
    """Rows of items; most tables have one more, of zeros, that index -1 picks.

    Attributes:
        item: the features of an item alone, float32 `[S, I + 1]`.
        popularity: log popularity, float32 `[I + 1]`.
        vectors: of items, float32 `[I, d]`.
        lengths: of these, infinite for no item, float32 `[I + 1]`.
        neighbours, weights: of the statistics, `[I, K]`.
        codes: categories, `V` for none, int32 `[M, I + 1]`.
        code_weights: inverse document frequency, 0 for none, float32 `[V + 1]`.
        code_norms: of an item's weighted categories, at least 1e-6, float32 `[I + 1]`.
        columns: dense attributes of items, float32 `[A, I + 1]`.
        column_norms: of these, float32 `[I + 1]`.
        user_columns: dense attributes of users, float32 `[U, A']`.
        idle: log days since a user's last interaction, float32 `[U + 1]`; None where interactions
            have no times.
        linear_score: the model of the linear score.
    """

    item: Array
    popularity: Array
    vectors: Array
    lengths: Array
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
        columns = items.dense[:, :MAX_COLUMNS]
        described = _described(statistics)
        item = np.zeros((len(described) + columns.shape[1], len(item_vectors) + 1), np.float32)
        for row, of in zip(item, (*described, *columns.T), strict=True):
            row[:-1] = of
        codes, code_weights = _coded(items)
        norms = np.sqrt((code_weights[codes] ** 2).sum(axis=0))
        return cls(
            item=item,
            popularity=item[0].copy(),
            vectors=item_vectors,
            lengths=np.append(np.maximum(_norms(item_vectors), 1e-12), np.float32(np.inf)),
            neighbours=statistics.neighbours,
            weights=statistics.neighbour_weights,
            codes=codes,
            code_weights=code_weights,
            code_norms=np.maximum(norms, 1e-6),
            columns=item[len(described) :],
            column_norms=_padded(_norms(columns)),
            user_columns=users.dense[:, :MAX_COLUMNS],
            idle=_idle(statistics),
            linear_score=linear_score,
        )

    def units(self, items: Array) -> Array:
        """Return the vectors of items `[...]`, of length 1, or 0 for -1: `[..., d]`."""
        return np.asarray(self.vectors.take(items, axis=0) / self.lengths.take(items)[..., None])


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


def _norms(rows: Array) -> Array:
    """Return the length of each row, float32 `[n]`."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        found[block] = np.linalg.norm(rows[block], axis=1)
    return found


def _padded(table: Array) -> Array:
    return np.append(table, np.float32(0)).astype(np.float32, copy=False)


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

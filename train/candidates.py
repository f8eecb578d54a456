"""From stage 1's candidates to the rows of stage 2: one function for training and serving."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from train.features import Features
from train.ragged import Array, Ragged
from train.statistics import DAY, Statistics

HISTORY = 50
RECENT = 10
MAX_CODES = 8
MAX_COLUMNS = 16
DECAY = 0.9

RETRIEVAL = ("retrieval_score", "retrieval_gap", "retrieval_rank")
USER = ("user_activity", "user_idle_days", "history_popularity")
HISTORIES = (
    "similarity_mean",
    "similarity_max",
    "similarity_last",
    "neighbours",
    "neighbours_recent",
    "popularity_gap",
)
CATEGORIES = ("category_share", "category_max", "category_cosine")


@dataclass(frozen=True)
class Queries:
    """Who asks.

    Attributes:
        user: int32 `[B]`, -1 for a user unknown at training time.
        history: `B` rows of items, oldest first.
        exclude: `B` rows of items that must not be recommended: seen ones and those asked for.
    """

    user: Array
    history: Ragged
    exclude: Ragged


@dataclass(frozen=True)
class Candidates:
    """What stage 1 found, best first.

    Attributes:
        items: int32 `[B, C]`, -1 after the last.
        scores: float32 `[B, C]`, -inf after the last.
    """

    items: Array
    scores: Array


@dataclass(frozen=True)
class Pairs:
    """A row for each candidate of each query, in stage 1's order.

    Attributes:
        features: float32 `[R, F]` in Fortran order.
        query: the row of the query, ascending, int64 `[R]`.
        item: int32 `[R]`.
        user_vectors: of the queries, float32 `[B, d]`.
    """

    features: Array
    query: Array
    item: Array
    user_vectors: Array

    def take(self, rows: Array) -> "Pairs":
        """Return the rows of a mask, bool `[R]`; queries keep their numbers."""
        features = self.features.T.take(np.flatnonzero(rows), axis=1).T
        return Pairs(features, self.query[rows], self.item[rows], self.user_vectors)


@dataclass(frozen=True)
class Catalogue:
    """What is known about items and users when candidates are described.

    Attributes:
        item_vectors: float32 `[I, d]`.
        item_features: of `I` items.
        user_features: of `U` users.
        statistics: as of the time of the queries.
    """

    item_vectors: Array
    item_features: Features
    user_features: Features
    statistics: Statistics

    @cached_property
    def tables(self) -> "_Tables":
        """What of the features can be computed once for all queries."""
        return _Tables.of(self)


def feature_names(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the names of the columns of `candidate_features`, `[F]`."""
    items, users = catalogue.item_features, catalogue.user_features
    columns = items.dense_names[:MAX_COLUMNS]
    return (
        *RETRIEVAL,
        *catalogue.tables.item_names,
        *USER,
        *(f"user_{name}" for name in users.dense_names[:MAX_COLUMNS]),
        *HISTORIES,
        *(CATEGORIES if items.vocabulary else ()),
        *(("attribute_cosine",) if columns else ()),
        *(f"gap_{name}" for name in columns),
    )


def candidate_features(
    catalogue: Catalogue, queries: Queries, user_vectors: Array, candidates: Candidates
) -> Array:
    """Describe every candidate of every query: float32 `[R, F]`, `R = B * C`, in Fortran order.

    A row depends on its own query alone, whatever else is in the batch, and on nothing at or after
    the time of the statistics. Rows of padding (item -1) hold no meaning.

    Args:
        catalogue: the items and users, as of the time of the queries.
        queries: `B` of them.
        user_vectors: float32 `[B, d]`, in the space of the item vectors.
        candidates: `[B, C]`.
    """
    batch = _Batch.of(catalogue.tables, queries, candidates)
    out = np.empty(
        (len(feature_names(catalogue)), *candidates.items.shape),
        dtype=np.float32,
    )
    at = 0
    for part in (_retrieval, _item, _user, _history, _category, _attribute):
        at += part(catalogue.tables, batch, out[at:])
    return out.reshape(len(out), -1).T


def pairs(
    catalogue: Catalogue, queries: Queries, user_vectors: Array, candidates: Candidates
) -> Pairs:
    """Describe the candidates as `candidate_features` does, rows of padding removed."""
    features = candidate_features(catalogue, queries, user_vectors, candidates)
    rows, width = candidates.items.shape
    query, item = np.repeat(np.arange(rows), width), candidates.items.reshape(-1)
    described = Pairs(features, query, item, user_vectors)
    real = item >= 0
    return described if real.all() else described.take(real)


@dataclass(frozen=True)
class _Tables:
    """Rows of items, each table with one more row of zeros that index -1 picks.

    Attributes:
        item_names: `[S]`.
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
        idle: log days since a user's last interaction, float32 `[U + 1]`.
    """

    item_names: tuple[str, ...]
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
    idle: Array

    @classmethod
    def of(cls, catalogue: Catalogue) -> "_Tables":
        statistics, items = catalogue.statistics, catalogue.item_features
        described = _described(statistics)
        columns = items.dense[:, :MAX_COLUMNS]
        described |= {
            f"item_{name}": column
            for name, column in zip(items.dense_names, columns.T, strict=False)
        }
        codes, code_weights = _coded(items)
        norms = np.sqrt((code_weights[codes] ** 2).sum(axis=0))
        return cls(
            item_names=tuple(described),
            item=_padded(np.array(list(described.values())).T).T.copy(),
            popularity=_padded(described["popularity"]),
            units=_padded(_unit(catalogue.item_vectors)),
            neighbours=_padded(statistics.neighbours),
            weights=_padded(statistics.neighbour_weights),
            codes=codes,
            code_weights=code_weights,
            code_norms=np.maximum(norms, 1e-6),
            columns=_padded(columns).T.copy(),
            column_norms=_padded(np.linalg.norm(columns, axis=1)),
            user_columns=_padded(catalogue.user_features.dense[:, :MAX_COLUMNS]),
            idle=_padded(_log_days(statistics.as_of - statistics.user_last)),
        )


@dataclass(frozen=True)
class _Batch:
    """The queries of one call.

    Attributes:
        user: int32 `[B]`.
        activity: length of the whole history, int64 `[B]`.
        history: its newest items, -1 before the first, int32 `[B, HISTORY]`.
        known: how many of these there are, at least 1, float32 `[B, 1]`.
        popularity: their mean log popularity, float32 `[B, 1]`.
        items: the candidates, int32 `[B, C]`.
        scores: stage 1's, 0 for padding, float32 `[B, C]`.
    """

    user: Array
    activity: Array
    history: Array
    known: Array
    popularity: Array
    items: Array
    scores: Array

    @classmethod
    def of(cls, tables: _Tables, queries: Queries, candidates: Candidates) -> "_Batch":
        history = queries.history.last(HISTORY)
        lengths = queries.history.lengths
        known = np.clip(lengths, 1, HISTORY).astype(np.float32)[:, None]
        return cls(
            user=queries.user,
            activity=lengths,
            history=history,
            known=known,
            popularity=tables.popularity.take(history).sum(axis=1, keepdims=True) / known,
            items=candidates.items,
            scores=np.where(candidates.items >= 0, candidates.scores, 0),
        )


def _described(statistics: Statistics) -> dict[str, Array]:
    """Return the features of an item alone; counts are relative to the mean item's."""
    total = _relative(statistics.item_count)
    recent = [_relative(counts) for counts in statistics.item_recent]
    days = statistics.recent_days.tolist()
    rank = np.empty(len(total))
    rank[statistics.popular(recent=True)] = np.arange(len(total))
    return {
        "popularity": np.log1p(total),
        **{f"popularity_{d}d": np.log1p(r) for d, r in zip(days, recent, strict=True)},
        **{
            f"trend_{d}d": np.log((r + 0.1) / (total + 0.1))
            for d, r in zip(days, recent, strict=True)
        },
        "popularity_rank": np.log1p(rank),
        "item_age": _log_days(statistics.as_of - statistics.item_first),
        "item_idle_days": _log_days(statistics.as_of - statistics.item_last),
    }


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


def _retrieval(tables: _Tables, batch: _Batch, out: Array) -> int:
    out[0] = batch.scores
    np.subtract(batch.scores[:, :1], batch.scores, out=out[1])
    out[2] = np.log1p(np.arange(batch.scores.shape[1]))
    return 3


def _item(tables: _Tables, batch: _Batch, out: Array) -> int:
    count = len(tables.item)
    np.take(tables.item, batch.items, axis=1, out=out[:count], mode="wrap")
    return count


def _user(tables: _Tables, batch: _Batch, out: Array) -> int:
    out[0] = np.log1p(batch.activity)[:, None]
    out[1] = tables.idle[batch.user][:, None]
    out[2] = batch.popularity
    columns = tables.user_columns[batch.user].T
    out[3 : 3 + len(columns)] = columns[:, :, None]
    return 3 + len(columns)


def _history(tables: _Tables, batch: _Batch, out: Array) -> int:
    seen = tables.units.take(batch.history, axis=0)
    mean = seen.sum(axis=1, keepdims=True) / batch.known[:, :, None]
    profile = np.concatenate([mean, seen[:, -RECENT:]], axis=1)
    # Both operands in C order, and the small axis in front for the maximum: 3 times as fast.
    similar = tables.units.take(batch.items, axis=0) @ profile.transpose(0, 2, 1).copy()
    planes = similar.transpose(2, 0, 1).copy()
    out[0] = planes[0]
    np.max(planes[1:], axis=0, out=out[1])
    out[2] = planes[-1]
    _together(tables, batch, out[3:5])
    np.subtract(tables.popularity.take(batch.items), batch.popularity, out=out[5])
    return 6


def _together(tables: _Tables, batch: _Batch, out: Array) -> None:
    """Sum, for each candidate, its weights as a neighbour of the items of the history.

    `place` says for every item which candidate of the query it is, from 1, or 0 for none.
    """
    rows, width = batch.items.shape
    steps, size = batch.history.shape[1], len(tables.neighbours)
    base = np.arange(rows)[:, None] * size
    place = np.zeros(rows * size, dtype=np.min_scalar_type(width))
    place[base + batch.items % size] = np.arange(1, width + 1)
    found = place.take(tables.neighbours.take(batch.history, axis=0) + base[:, :, None]).ravel()
    hit = np.flatnonzero(found != 0)
    query_step = hit // tables.neighbours.shape[1]
    cell = query_step // steps * width + found[hit] - 1
    weight = tables.weights.take(batch.history, axis=0).ravel()[hit]
    fade = DECAY ** np.arange(steps - 1, -1, -1)
    out[0] = np.bincount(cell, weight, rows * width).reshape(rows, width)
    faded = weight * fade[query_step % steps]
    out[1] = np.bincount(cell, faded, rows * width).reshape(rows, width)


def _category(tables: _Tables, batch: _Batch, out: Array) -> int:
    size = len(tables.code_weights)
    if size == 1:
        return 0
    rows = len(batch.history)
    base = np.arange(rows)[:, None] * size
    taken = tables.codes.take(batch.history, axis=1) + base
    counts = np.bincount(taken.ravel(), minlength=rows * size).reshape(rows, size)
    share = counts.astype(np.float32) / batch.known
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


def _attribute(tables: _Tables, batch: _Batch, out: Array) -> int:
    width = len(tables.columns)
    if not width:
        return 0
    taste = tables.columns.take(batch.history, axis=1).sum(axis=2) / batch.known.T
    own = np.take(tables.columns, batch.items, axis=1, mode="wrap")
    norms = np.sqrt((taste**2).sum(axis=0))[:, None] * tables.column_norms.take(batch.items)
    np.divide((own * taste[:, :, None]).sum(axis=0), np.maximum(norms, 1e-6), out=out[0])
    np.abs(np.subtract(own, taste[:, :, None], out=own), out=out[1 : 1 + width])
    return 1 + width

"""Ranking metrics per user and per held-out interaction, novelty and coverage."""

import numpy as np

from train.core.ragged import Array, Ragged

NAMES = ("recall", "ndcg", "map", "mrr", "hit_rate", "precision")


def per_user(ranked: Array, relevant: Ragged, k: int) -> dict[str, Array]:
    """Return recall, NDCG, MAP, MRR, hit rate and precision at `k` of every user.

    With hits `h_1..h_k` in {0, 1} and `r` relevant items: recall is `sum(h) / r`, precision
    `sum(h) / k`, hit rate `max(h)`; NDCG is `sum(h_i / log2(i + 1))` over the same sum for
    `min(r, k)` leading hits (Järvelin and Kekäläinen, 2002); average precision is the sum of the
    precision at each hit over `min(r, k)`; the reciprocal rank (mrr) is 1 over the place of the
    first hit, 0 without one.

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`; no item twice.
        relevant: `U` rows of item indices; an item that is there twice counts once.
        k: the cut.

    Returns:
        `{name: float64 [U]}`, NaN for users without relevant items.

    Raises:
        ValueError: `ranked` has fewer than `k` columns or not a row for each row of `relevant`.
    """
    _check(ranked, relevant, k)
    hits, count = _hits(ranked[:, :k], relevant)
    gain = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.nan], np.cumsum(gain)])[np.minimum(count, k)]
    some = np.where(count > 0, count, np.nan)
    at_each = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    number = hits.sum(axis=1)
    return {
        "recall": number / some,
        "ndcg": hits @ gain / ideal,
        "map": (at_each * hits).sum(axis=1) / np.minimum(some, k),
        "mrr": np.where(count > 0, (hits / np.arange(1, k + 1)).max(axis=1), np.nan),
        "hit_rate": np.where(count > 0, number > 0, np.nan),
        "precision": np.where(count > 0, number / k, np.nan),
    }


def per_positive(ranked: Array, relevant: Ragged, k: int) -> dict[str, Array]:
    """Return each user's sums of recall and NDCG at `k` over held-out pairs, and their number.

    The rank of a pair is the number of items that score higher, other relevant ones included;
    its recall is `[rank < k]` and its NDCG `[rank < k] / log2(rank + 2)`, as if it were the user's
    only one (Krichene and Rendle, 2020). Divide sums by sums for the mean over all pairs, in which
    users weigh as much as they have pairs.

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`; no item twice.
        relevant: `U` rows of item indices; an item that is there twice counts once.
        k: the cut.

    Returns:
        `recall`, `ndcg` and `pairs`, float64 `[U]`.

    Raises:
        ValueError: as `per_user`.
    """
    _check(ranked, relevant, k)
    hits, count = _hits(ranked[:, :k], relevant)
    gain = 1.0 / np.log2(np.arange(2, k + 2))
    return {
        "recall": hits.sum(axis=1).astype(np.float64),
        "ndcg": hits @ gain,
        "pairs": count.astype(np.float64),
    }


def inverse_user_frequency(histories: Ragged, n_items: int) -> Array:
    """Return `-log2(users with the item / users)` of each item, bits, float64 `[I]`.

    Users are those with a history, and each counts once for an item. An item without interactions
    counts as if one of them had it.

    Args:
        histories: items of each user before the test, U rows.
        n_items: I.
    """
    pairs = np.unique(histories.rows * np.int64(n_items) + histories.values)
    counts = np.bincount(pairs % n_items, minlength=n_items)
    users = max(1, np.count_nonzero(histories.lengths))
    surprise: Array = np.log2(users / np.maximum(counts, 1))
    return surprise


def novelty(ranked: Array, frequency: Array, k: int) -> Array:
    """Return each user's mean inverse user frequency of the first `k` items, bits, `[U]`.

    The self-information of Zhou et al. (2010); MIUF in Castells, Hurley and Vargas (2015).

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`.
        frequency: as `inverse_user_frequency` returns it, `[I]`.
        k: the cut.

    Returns:
        float64 `[U]`; NaN for users who are shown nothing.
    """
    shown = ranked[:, :k] >= 0
    total = np.where(shown, frequency[ranked[:, :k]], 0.0).sum(axis=1)
    count = shown.sum(axis=1)
    mean: Array = np.divide(total, count, out=np.full(len(ranked), np.nan), where=count > 0)
    return mean


def coverage(ranked: Array, n_catalogue: int) -> float:
    """Return the share of a catalogue of `n_catalogue` items that the rankings `[U, k]` show."""
    shown = np.unique(ranked)
    return float(np.count_nonzero(shown >= 0) / n_catalogue)


def _check(ranked: Array, relevant: Ragged, k: int) -> None:
    if ranked.ndim != 2 or ranked.shape[1] < k or k < 1 or len(ranked) != len(relevant):
        raise ValueError(
            f"metrics@{k} need ranked [{len(relevant)}, >= {max(k, 1)}], got {list(ranked.shape)}"
        )


def _hits(ranked: Array, relevant: Ragged) -> tuple[Array, Array]:
    """Return whether each ranked item is relevant, bool [U, k], and distinct relevant items [U]."""
    span = 1 + max(ranked.max(initial=0), relevant.values.max(initial=0))
    keys = np.unique(relevant.rows * span + relevant.values)
    count = np.bincount(keys // span, minlength=len(relevant))
    if not len(keys):
        return np.zeros(ranked.shape, dtype=bool), count
    shown = np.arange(len(ranked))[:, None] * span + ranked
    place = np.minimum(np.searchsorted(keys, shown), len(keys) - 1)
    return (keys[place] == shown) & (ranked >= 0), count

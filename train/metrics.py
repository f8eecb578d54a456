"""Ranking metrics per user, coverage, and bootstrap intervals over users."""

import numpy as np

from train.ragged import Array, Ragged

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
    if ranked.ndim != 2 or ranked.shape[1] < k or k < 1 or len(ranked) != len(relevant):
        raise ValueError(
            f"metrics@{k} need ranked [{len(relevant)}, >= {max(k, 1)}], got {list(ranked.shape)}"
        )
    hits, count = _hits(ranked[:, :k], relevant)
    gain = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.nan], np.cumsum(gain)])[np.minimum(count, k)]
    some = np.where(count > 0, count, np.nan)
    at_each = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    found = hits.sum(axis=1)
    return {
        "recall": found / some,
        "ndcg": hits @ gain / ideal,
        "map": (at_each * hits).sum(axis=1) / np.minimum(some, k),
        "mrr": np.where(count > 0, (hits / np.arange(1, k + 1)).max(axis=1), np.nan),
        "hit_rate": np.where(count > 0, found > 0, np.nan),
        "precision": np.where(count > 0, found / k, np.nan),
    }


def _hits(ranked: Array, relevant: Ragged) -> tuple[Array, Array]:
    """Return whether each ranked item is relevant, bool [U, k], and distinct relevant items [U]."""
    span = 1 + max(ranked.max(initial=0), relevant.values.max(initial=0))
    keys = np.unique(relevant.rows * span + relevant.values)
    count = np.bincount(keys // span, minlength=len(relevant))
    if not len(keys):
        return np.zeros(ranked.shape, dtype=bool), count
    wanted = np.arange(len(ranked))[:, None] * span + ranked
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return (keys[place] == wanted) & (ranked >= 0), count


def coverage(ranked: Array, n_catalogue: int) -> float:
    """Return the share of a catalogue of `n_catalogue` items that the rankings `[U, k]` show."""
    shown = np.unique(ranked)
    return float(np.count_nonzero(shown >= 0) / n_catalogue)


def bootstrap(
    values: Array, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean over users and the ends of its percentile bootstrap interval.

    For a comparison give the difference of two systems for each user: a paired bootstrap
    (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: one a user, floats `[U]`; NaN are left out.
        samples: resamples drawn.
        seed: the same seed gives the same interval.
        level: coverage of the interval.

    Returns:
        mean, low, high; NaN when no value is left.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng(seed)
    step = max(1, 2**22 // len(values))
    means = np.concatenate(
        [
            values[rng.integers(0, len(values), (min(step, samples - done), len(values)))].mean(1)
            for done in range(0, samples, step)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)

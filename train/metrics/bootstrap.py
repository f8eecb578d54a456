"""Bootstrap intervals over users, of one metric or of many at once."""

from typing import Any

import numpy as np

from train.core.ragged import Array

Columns = dict[tuple[str, ...], tuple[Array, Array]]
"""By the path of a metric in a report: its sums and weights over users, each `[U]`."""

DRAWS = 2**22  # draws of users in memory at a time: 32 MB of counts


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
    sums, weights = mean_over_users(values[~np.isnan(values)])
    ends = bootstrap_ratios(sums[:, None], weights[:, None], samples, seed, level)
    mean, low, high = (float(end[0]) for end in ends)
    return mean, low, high


def bootstrap_ratios(
    sums: Array, weights: Array, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[Array, Array, Array]:
    """Return ratios of sums over users, and the ends of their percentile bootstrap intervals.

    Users are drawn with all that is theirs, so a mean over pairs has the interval of a mean over
    clusters (Davison and Hinkley, 1997, section 3.8); columns share the users that were drawn.

    Args:
        sums: numerators, floats `[U, M]`.
        weights: denominators, floats `[U, M]`, 0 where a user does not count.
        samples: resamples drawn.
        seed: the same seed gives the same intervals.
        level: coverage of each interval.

    Returns:
        `sum(sums) / sum(weights)`, low, high, each `[M]`; NaN where all weights are 0.
    """
    rng, (users, count) = np.random.default_rng(seed), sums.shape
    sums, weights = _summable(sums), _summable(weights)
    ratios = np.full((samples, count), np.nan)
    step = max(1, DRAWS // max(users, 1))
    for start in range(0, samples if users else 0, step):
        drawn = _times_drawn(rng, min(step, samples - start), users)
        ratios[start : start + step] = _ratio(drawn @ sums, drawn @ weights)
    low, high = (_quantile(ratios, q) for q in ((1 - level) / 2, (1 + level) / 2))
    return _ratio(sums.sum(axis=0), weights.sum(axis=0)), low, high


def mean_over_users(values: Array) -> tuple[Array, Array]:
    """Return the sums and weights `[U]` whose ratio is the mean of `values` `[U]` without NaN."""
    return np.nan_to_num(values), (~np.isnan(values)).astype(np.float64)


def nested(columns: Columns, samples: int, seed: int) -> dict[str, Any]:
    """Return `mean`, `low` and `high` of every column at its path, in dicts within dicts."""
    sums, weights = (np.column_stack(side) for side in zip(*columns.values(), strict=True))
    ends = bootstrap_ratios(sums, weights, samples, seed)
    report: dict[str, Any] = {}
    for path, *values in zip(columns, *ends, strict=True):
        place = report
        for key in path[:-1]:
            place = place.setdefault(key, {})
        named = zip(("mean", "low", "high"), values, strict=True)
        place[path[-1]] = {name: float(value) for name, value in named}
    return report


def _times_drawn(rng: np.random.Generator, samples: int, users: int) -> Array:
    """Return how often each user is in each resample, float64 [samples, U]."""
    drawn = rng.integers(0, users, (samples, users)) + users * np.arange(samples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=samples * users)
    return counts.reshape(samples, users).astype(np.float64)


def _summable(values: Array) -> Array:
    """Round each column of floats `[U, M]` so that sums of U of its elements are exact.

    They become multiples of a power of two, 2^-53 U of the largest one, so that a float64 holds
    every partial sum. The order in which BLAS adds them decides nothing then, and an interval that
    ends at 0 on paper, as opposite gains cancel, does not end beside it.
    """
    largest = np.frexp(np.abs(values).max(axis=0, initial=0))[1]
    unit = np.ldexp(1.0, largest + int(np.frexp(len(values))[1]) - 53)
    rounded: Array = np.rint(values / unit) * unit
    return rounded


def _ratio(sums: Array, weights: Array) -> Array:
    ratio: Array = np.divide(sums, weights, out=np.full(sums.shape, np.nan), where=weights > 0)
    return ratio


def _quantile(ratios: Array, q: float) -> Array:
    """Return a quantile of each column without its NaN, [M]: a small group can be drawn empty."""
    quantiles = np.full(ratios.shape[1], np.nan)
    some = ~np.isnan(ratios).all(axis=0)
    quantiles[some] = np.nanquantile(ratios[:, some], q, axis=0)
    return quantiles

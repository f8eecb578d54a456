"""Beyond accuracy: diversity within lists, popularity bias, and an NDCG that is debiased."""

import numpy as np
import scipy.sparse as sp

from train.core.ragged import Array, Ragged

# Pairs of items whose cosines are computed at a time: their rows of users are in memory.
BLOCK = 2**16
# Inverse propensities are cut here: a handful of rare items would decide the figure otherwise.
MAX_WEIGHT = 10.0


def interaction_rows(histories: Ragged, n_items: int) -> sp.csr_matrix:
    """Return which users have each item, rows of length 1, sparse float64 `[I, U]`.

    Args:
        histories: items of each user before the test, U rows.
        n_items: I.
    """
    ones = np.ones(len(histories.values))
    shape = (n_items, len(histories))
    users = sp.csr_matrix((ones, (histories.values, histories.rows)), shape=shape)
    users.data[:] = 1.0  # who has an item twice has it once
    lengths = np.sqrt(users.getnnz(axis=1))
    scale = sp.diags(np.divide(1.0, lengths, out=np.zeros(n_items), where=lengths > 0))
    return (scale @ users).tocsr()


def diversity(ranked: Array, rows: sp.csr_matrix, k: int) -> Array:
    """Return the intra-list diversity of the first `k` items: 1 - their mean pairwise cosine.

    Ziegler et al. (2005) with the cosine between the sets of users who have two items, which
    needs no attributes and favors no tower.

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`.
        rows: as `interaction_rows` returns them.
        k: the cut.

    Returns:
        float64 `[U]`; NaN for users who are shown fewer than two items.
    """
    one, other = np.triu_indices(k, 1)
    lists = ranked[:, :k].astype(np.int64)
    left, right = lists[:, one], lists[:, other]
    shown = (left >= 0) & (right >= 0)
    low, high = np.minimum(left, right), np.maximum(left, right)
    keys, place = np.unique(low[shown] * rows.shape[0] + high[shown], return_inverse=True)
    cosine = np.zeros(shown.shape)
    cosine[shown] = _cosines(rows, keys // rows.shape[0], keys % rows.shape[0])[place]
    count = shown.sum(axis=1)
    mean = np.divide(cosine.sum(axis=1), count, out=np.full(len(lists), np.nan), where=count > 0)
    return np.asarray(1.0 - mean)


def _cosines(rows: sp.csr_matrix, left: Array, right: Array) -> Array:
    found = [
        rows[left[at : at + BLOCK]].multiply(rows[right[at : at + BLOCK]]).sum(axis=1)
        for at in range(0, len(left), BLOCK)
    ]
    return np.concatenate([np.asarray(part).ravel() for part in found] or [np.zeros(0)])


def popularity(ranked: Array, counts: Array, k: int) -> Array:
    """Return the average recommendation popularity: mean interactions of the first `k` items.

    ARP of Yin et al. (2012), as Abdollahpouri et al. (2019) use it for popularity bias.

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`.
        counts: interactions of each item before the test, `[I]`.
        k: the cut.

    Returns:
        float64 `[U]`; NaN for users who are shown nothing.
    """
    shown = ranked[:, :k] >= 0
    total = np.where(shown, counts[ranked[:, :k]], 0).sum(axis=1)
    count = shown.sum(axis=1)
    mean = np.divide(total, count, out=np.full(len(ranked), np.nan), where=count > 0)
    return np.asarray(mean)


def gini(ranked: Array, catalogue: Array, k: int) -> float:
    """Return the Gini coefficient of how often the items of a catalogue are shown.

    0 where all are shown equally often, near 1 where one item takes all places; NaN where nothing
    is shown.

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`.
        catalogue: the items that may be shown, bool `[I]`.
        k: the cut.
    """
    shown = ranked[:, :k]
    counts = np.bincount(shown[shown >= 0], minlength=len(catalogue))[catalogue]
    counts = np.sort(counts).astype(np.float64)
    if not counts.sum():
        return float("nan")
    size = len(counts)
    place = 2 * np.arange(1, size + 1) - size - 1
    return float((place * counts).sum() / (size * counts.sum()))


def inverse_propensity(counts: Array) -> Array:
    """Return how much an interaction with each item weighs, 1 for the most popular, `[I]`.

    The chance that an interaction is observed is taken as the square root of the item's share of
    the most popular one's interactions (Saito et al., 2020); its inverse is cut at `MAX_WEIGHT`.

    Args:
        counts: interactions of each item before the test, `[I]`.
    """
    share = counts / max(1, counts.max(initial=0))
    inverse = np.divide(1.0, np.sqrt(share), out=np.full(len(counts), MAX_WEIGHT), where=share > 0)
    return np.asarray(np.minimum(inverse, MAX_WEIGHT))


def debiased_ndcg(ranked: Array, relevant: Ragged, weights: Array, k: int) -> Array:
    """Return the NDCG at `k` whose gains are inverse propensities.

    Popular items are over-represented in what is observed; weighted so, an estimate is that of a
    test in which all items were seen equally often (Schnabel et al., 2016; Yang et al., 2018). The
    best possible ranking of each user has 1, which normalizes the weights.

    Args:
        ranked: item indices, best first, -1 after the last, int `[U, >= k]`; no item twice.
        relevant: `U` rows of item indices, none of them twice.
        weights: as `inverse_propensity` returns them, `[I]`.
        k: the cut.

    Returns:
        float64 `[U]`; NaN for users without relevant items.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    span = len(weights)
    keys = np.sort(relevant.rows * np.int64(span) + relevant.values)
    shown = np.arange(len(ranked))[:, None] * span + ranked[:, :k]
    hits = np.isin(shown, keys) & (ranked[:, :k] >= 0)
    reached = np.where(hits, weights[ranked[:, :k]], 0.0) @ discount
    best = _ideal(relevant, weights, discount)
    ndcg: Array = np.divide(reached, best, out=np.full(len(ranked), np.nan), where=best > 0)
    return ndcg


def _ideal(relevant: Ragged, weights: Array, discount: Array) -> Array:
    """Return the discounted sum of each row's weights in falling order, `[U]`."""
    gains = weights[relevant.values]
    order = np.lexsort((-gains, relevant.rows))
    rows = relevant.rows[order]
    place = np.arange(len(rows)) - relevant.offsets[rows]
    counted = place < len(discount)
    values = gains[order][counted] * discount[place[counted]]
    return np.asarray(np.bincount(rows[counted], values, minlength=len(relevant)))

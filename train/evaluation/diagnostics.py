"""Diagnostics of stage 1 for plots: recall by number of candidates, score densities of pairs."""

import numpy as np

from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.metrics.bootstrap import bootstrap_ratios, mean_over_users
from train.metrics.ranking import per_user
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates

USERS = 2000
PAIRS = 100_000
COUNTS = 25
WIDEST = 1000
BINS = 60
BLOCK = 256


def diagnose(recommender: Recommender, holdout: Holdout, seed: int) -> dict[str, Array]:
    """Return `recall_by_count` and `score_densities` of at most 2,000 of the test's users."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(holdout.users))[:USERS])
    some = holdout.take(rows)
    return recall_by_count(recommender, some, seed) | score_densities(recommender, some, seed)


def recall_by_count(recommender: Recommender, holdout: Holdout, seed: int) -> dict[str, Array]:
    """Return the recall of the first candidates of stage 1, for rising numbers of them.

    Returns:
        `recall_counts` int64 `[n]`, the number that stage 2 gets among them; `recall_mean`,
        `recall_low` and `recall_high`, float64 `[n]`, with 95 % bootstrap intervals over users.
    """
    size, candidates = int(recommender.catalogue.sum()), recommender.candidates
    widest = min(size, max(WIDEST, 2 * candidates))
    steps = np.geomspace(1, widest, COUNTS).round().astype(np.int64)
    counts = np.unique([*steps, min(candidates, widest)])
    blocks = [holdout.users[at : at + BLOCK] for at in range(0, len(holdout.users), BLOCK)]
    found = np.concatenate([_items(recommender, block, widest) for block in blocks])
    recalls = [per_user(found, holdout.relevant, int(n))["recall"] for n in counts]
    sums, weights = mean_over_users(np.column_stack(recalls))
    mean, low, high = bootstrap_ratios(sums, weights, seed=seed)
    return {"recall_counts": counts, "recall_mean": mean, "recall_low": low, "recall_high": high}


def _items(recommender: Recommender, users: Array, count: int) -> Array:
    """Return the best `count` unseen items of known users, int32 [B, count]."""
    queries, vectors = of_known_users(recommender, users), recommender.user_vectors[users]
    return find_candidates(recommender, queries, vectors, np.full(len(users), count)).items


def score_densities(recommender: Recommender, holdout: Holdout, seed: int) -> dict[str, Array]:
    """Return how stage 1 scores test pairs, and pairs of the same users with random unseen items.

    Returns:
        `score_edges` float64 `[61]`; `score_positive` and `score_negative`, densities between the
        edges, float64 `[60]`; `score_auc`, the chance that a test pair scores higher than a random
        one, float64 `[1]`.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(holdout.relevant.values))[:PAIRS])
    rows, items = holdout.relevant.rows[chosen], holdout.relevant.values[chosen]
    others = rng.choice(np.flatnonzero(recommender.catalogue), len(rows))
    known = recommender.histories.take(holdout.users).join(holdout.relevant)
    new = ~_contains(known, rows, others, len(recommender.item_vectors))
    positive = _scores(recommender, holdout.users[rows], items)
    negative = _scores(recommender, holdout.users[rows[new]], others[new])
    edges = _edges(np.concatenate([positive, negative]))
    return {
        "score_edges": edges,
        "score_positive": np.histogram(positive, edges, density=True)[0],
        "score_negative": np.histogram(negative, edges, density=True)[0],
        "score_auc": np.array([_auc(positive, negative)]),
    }


def _contains(rows: Ragged, row: Array, item: Array, n_items: int) -> Array:
    """Return whether each item is in its row, bool [P]."""
    return np.isin(row * n_items + item, rows.rows * n_items + rows.values)


def _scores(recommender: Recommender, users: Array, items: Array) -> Array:
    """Return how stage 1 scores pairs, float64 [P]."""
    of_users, of_items = recommender.user_vectors[users], recommender.item_vectors[items]
    scores: Array = recommender.index.pair_scores(of_users, of_items).astype(np.float64)
    return scores


def _edges(scores: Array) -> Array:
    """Return the ends of bins that hold all scores but the outermost thousandths."""
    low, high = np.quantile(scores, [0.001, 0.999]) if len(scores) else (0.0, 1.0)
    return np.linspace(low, max(high, low + 1e-6), BINS + 1)


def _auc(positive: Array, negative: Array) -> float:
    """Return the chance that a positive is above a negative, ties counting half."""
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(negative)))

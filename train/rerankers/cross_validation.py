"""Cross-validation of rerankers over queries, and whether one beats stage 1."""

from collections.abc import Iterator

import numpy as np

from train.core.ragged import Array, Ragged
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.rerankers.base import Given, Labelled, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows


def fold_of(query: Array, folds: int, seed: int) -> Array:
    """Return a fold for each row, int64 [R]: the same for all rows of a query, of equal sizes."""
    names, place = np.unique(query, return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[place] % folds


def parted(given: Given, folds: int) -> Iterator[tuple[Labelled, Labelled]]:
    """Yield rows to fit on and those of other queries to choose by, for each fold in turn.

    With rows for evaluation there is one part, and they are its others. A single query is both.
    """
    pairs, labels = given.pairs, given.labels
    if given.evaluation:
        yield (pairs, labels), given.evaluation
        return
    fold = fold_of(pairs.query, folds, given.seed)
    for number in range(fold.max() + 1):
        held = fold == number
        rest = held if held.all() else ~held
        yield (pairs.take(rest), labels[rest]), (pairs.take(held), labels[held])


def cross_fit(
    settings: RerankerSettings,
    pairs: CandidateRows,
    labels: Array,
    item_vectors: Array,
    feature_names: tuple[str, ...],
    folds: int = 4,
    seed: int = 0,
    threads: int = 1,
) -> Array:
    """Return scores of every row, float32 `[R]`, each by a model fitted on other queries.

    Raises:
        ValueError: there are fewer queries than folds, or a fold's others hold no positive.
    """
    fold = fold_of(pairs.query, folds, seed)
    if len(np.unique(fold)) < folds:
        raise ValueError(f"{folds} folds need {folds} queries, got {len(np.unique(pairs.query))}")
    scores = np.empty(len(labels), dtype=np.float32)
    for held in range(folds):
        rest, own = fold != held, fold == held
        model = settings.fit(
            pairs.take(rest), labels[rest], item_vectors, feature_names, seed, threads
        )
        scores[own] = model.score(pairs.take(own))
    return scores


def earns(
    pairs: CandidateRows,
    labels: Array,
    scores: Array,
    relevant: Ragged | None = None,
    k: int = 10,
    seed: int = 0,
) -> dict[str, float | bool]:
    """Compare NDCG@k of `scores` with stage 1's order by a paired bootstrap over queries.

    Args:
        pairs: the rows, in stage 1's order.
        labels: 1 where the candidate was taken, `[R]`.
        scores: out of fold, `[R]`; see `cross_fit`.
        relevant: all that each of the `B` queries took; by default what its candidates hold.
        k: the cut.
        seed: of the bootstrap.

    Returns:
        `ndcg` and `ndcg_stage1` (means), `gain` (mean difference), `low` and `high` (the ends of
        its 95 % interval), `queries` (how many counted) and `earned`: whether `low` is above 0.
    """
    queries = len(pairs.user_vectors)
    if relevant is None:
        taken = labels > 0
        relevant = Ragged.from_pairs(pairs.query[taken], pairs.item[taken], queries)
    first = np.zeros(len(labels), dtype=np.float32)
    ndcg, ndcg_first = (
        per_user(ranked(pairs, order, k), relevant, k)["ndcg"] for order in (scores, first)
    )
    gain, low, high = bootstrap(ndcg - ndcg_first, seed=seed)
    counted = ~np.isnan(ndcg)
    return {
        "ndcg": float(ndcg[counted].mean()) if counted.any() else np.nan,
        "ndcg_stage1": float(ndcg_first[counted].mean()) if counted.any() else np.nan,
        "gain": gain,
        "low": low,
        "high": high,
        "queries": int(counted.sum()),
        "earned": bool(low > 0),
    }


def ranked(pairs: CandidateRows, scores: Array, k: int) -> Array:
    """Return the `k` best items of every query, int32 `[B, k]`, -1 padded.

    Equal scores stay in stage 1's order.
    """
    queries = len(pairs.user_vectors)
    order = np.lexsort((-scores, pairs.query))
    query = pairs.query[order]
    place = np.arange(len(query)) - np.searchsorted(query, np.arange(queries))[query]
    kept = place < k
    best = np.full((queries, k), -1, dtype=np.int32)
    best[query[kept], place[kept]] = pairs.item[order][kept]
    return best

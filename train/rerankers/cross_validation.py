"""Cross-validation of rerankers over requests, and whether one beats stage 1."""

from collections.abc import Iterator

import numpy as np

from train.core.ragged import Array
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.rerankers.base import RerankerSettings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.training_set import TrainingSet


def fold_of(query: Array, folds: int, seed: int) -> Array:
    """Return a fold for each row, int64 [R]: the same for all rows of a request, of equal sizes."""
    names, place = np.unique(query, return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[place] % folds


def training_and_evaluation(
    training: TrainingSet, evaluation: TrainingSet | None, folds: int, seed: int
) -> Iterator[tuple[TrainingSet, TrainingSet]]:
    """Yield rows to fit on and rows of other requests to choose by, for each fold in turn.

    With rows for evaluation there is one pair, and no folds. A single request is both.
    """
    if evaluation is not None:
        yield training, evaluation
        return
    fold = fold_of(training.rows.query, folds, seed)
    for number in range(fold.max() + 1):
        held_out = fold == number
        rest = held_out if held_out.all() else ~held_out
        yield training.take(rest), training.take(held_out)


def cross_fit(
    settings: RerankerSettings,
    training: TrainingSet,
    folds: int = 4,
    seed: int = 0,
    threads: int = 1,
) -> Array:
    """Return out-of-fold scores, float32 `[R]`: each by a model fitted on other requests.

    Requests that hold a sample of their candidates are fitted on in every fold, and score 0.

    Raises:
        ValueError: there are fewer requests than folds, or a fold's others hold no positive.
    """
    judged = training.rows.query < training.requests_judged
    query = training.rows.query[judged]
    fold = np.full(len(training), -1)
    fold[judged] = fold_of(query, folds, seed)
    if len(np.unique(fold[judged])) < folds:
        raise ValueError(f"{folds} folds need {folds} queries, got {len(np.unique(query))}")
    scores = np.zeros(len(training), dtype=np.float32)
    for number in range(folds):
        held_out = fold == number
        model = settings.fit(training.take(~held_out), seed, threads)
        scores[held_out] = model.score(training.rows.take(held_out))
    return scores


def earns(
    training: TrainingSet, scores: Array, k: int = 10, seed: int = 0
) -> dict[str, float | bool]:
    """Compare NDCG@k of `scores` with stage 1's order by a paired bootstrap over requests.

    Args:
        training: the rows, in stage 1's order, and their ground truth.
        scores: out of fold, `[R]`; see `cross_fit`.
        k: the cut.
        seed: of the bootstrap.

    Returns:
        `ndcg` and `ndcg_stage1` (means), `gain` (mean difference), `low` and `high` (the ends of
        its 95 % interval), `queries` (how many counted) and `earned`: whether `low` is above 0.
    """
    stage_1 = np.zeros(len(training), dtype=np.float32)  # equal scores keep stage 1's order
    ndcg, ndcg_stage_1 = (
        per_user(ranked(training.rows, order, k), training.relevant, k)["ndcg"]
        for order in (scores, stage_1)
    )
    gain, low, high = bootstrap(ndcg - ndcg_stage_1, seed=seed)
    counted = ~np.isnan(ndcg)
    return {
        "ndcg": float(ndcg[counted].mean()) if counted.any() else np.nan,
        "ndcg_stage1": float(ndcg_stage_1[counted].mean()) if counted.any() else np.nan,
        "gain": gain,
        "low": low,
        "high": high,
        "queries": int(counted.sum()),
        "earned": bool(low > 0),
    }


def ranked(rows: CandidateRows, scores: Array, k: int) -> Array:
    """Return the `k` best items of every request, int32 `[B, k]`, -1 padded.

    Equal scores stay in stage 1's order.
    """
    requests = len(rows.user_vectors)
    order = np.lexsort((-scores, rows.query))
    query = rows.query[order]
    place = np.arange(len(query)) - np.searchsorted(query, np.arange(requests))[query]
    kept = place < k
    best = np.full((requests, k), -1, dtype=np.int32)
    best[query[kept], place[kept]] = rows.item[order][kept]
    return best

"""The one table: baselines, stage 1, both stages and the ceiling, over the whole catalogue."""

from typing import Any

from train.config import Evaluation
from train.features import Encoded
from train.intervals import bootstrap
from train.metrics import NAMES, coverage, per_user
from train.ragged import Array
from train.rerankers import Reranker
from train.snapshot import Window
from train.top_k import rank_scores
from train.two_stages import StageOne, rank_both, recall_at_candidates


def evaluate(
    data: Encoded,
    stage: StageOne,
    reranker: Reranker | None,
    window: Window,
    candidates: int,
    settings: Evaluation,
    seed: int,
) -> dict[str, Any]:
    """Measure every system on the users of the test window, seen items removed.

    Returns:
        `systems` (by name, then metric: mean, low, high; and `coverage`), `gain` of both stages
        over stage 1 in NDCG (paired), `recall@candidates`, and what was measured on (`users`,
        `interactions`, `catalogue`, `k`, `candidates`). Intervals are 95 % bootstrap intervals over
        users.
    """
    k = settings.k
    rankings, found = _rankings(data, stage, reranker, window, candidates, settings, seed)
    scores = {name: per_user(ranked, window.relevant, k) for name, ranked in rankings.items()}
    size = int(stage.snapshot.inputs.warm_items.sum())

    def interval(values: Array) -> dict[str, float]:
        mean, low, high = bootstrap(values, settings.resamples, seed)
        return {"mean": mean, "low": low, "high": high}

    systems = {
        name: {metric: interval(values[metric]) for metric in NAMES}
        | {"coverage": {"mean": coverage(rankings[name], size)}}
        for name, values in scores.items()
    }
    report: dict[str, Any] = {
        "k": k,
        "users": len(window.users),
        "interactions": len(window.relevant.values),
        "catalogue": size,
        "candidates": candidates,
        "systems": systems,
        "recall@candidates": interval(recall_at_candidates(found, window.relevant)),
    }
    if "both_stages" in scores:
        gain = scores["both_stages"]["ndcg"] - scores["stage_1"]["ndcg"]
        report["gain"] = {"ndcg": interval(gain)}
    return report


def _rankings(
    data: Encoded,
    stage: StageOne,
    reranker: Reranker | None,
    window: Window,
    candidates: int,
    settings: Evaluation,
    seed: int,
) -> tuple[dict[str, Array], Array]:
    """Return the ranking `[V, k]` of every system, and the candidates `[V, C]`."""
    users, known = window.users, stage.snapshot
    seen = known.histories.take(users)
    rankings = {}
    for baseline in settings.baselines:
        score = baseline.fit(known, settings.recent_days, seed)
        rankings[baseline.name] = rank_scores(
            score, users, known.inputs.warm_items, seen, settings.k
        )
    count = max(candidates, settings.k)
    both, found = rank_both(data, stage, reranker, users, count, settings.k)
    rankings["stage_1"] = found[:, : settings.k]
    if reranker is not None:
        rankings["both_stages"] = both
    return rankings, found

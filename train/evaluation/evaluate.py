"""The report of a test: every system on unseen and on all items, its parts, and the ceiling."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout, Snapshot, holdout_fingerprint, some_users
from train.evaluation.breakdown import Group, groups
from train.evaluation.rankings import Rankings, rank_systems, source_row
from train.evaluation.settings import Evaluation
from train.evaluation.verdict import verdict
from train.metrics.beyond import (
    debiased_ndcg,
    diversity,
    gini,
    interaction_rows,
    inverse_propensity,
    popularity,
)
from train.metrics.bootstrap import Columns, mean_over_users, nested
from train.metrics.ranking import (
    NAMES,
    coverage,
    inverse_user_frequency,
    novelty,
    per_positive,
    per_user,
)
from train.recommender.gate import Merge, contributions
from train.recommender.recommender import BOTH_STAGES, STAGE_1, Recommender

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """Metrics of every system on the V users of a holdout.

    Attributes:
        report: see `evaluate`.
        users: who they are, int32 `[V]`.
        ndcg: NDCG of each user on unseen items by system, float64 `[V]`.
    """

    report: dict[str, Any]
    users: Array
    ndcg: Mapping[str, Array]

    def arrays(self) -> dict[str, Array]:
        """Return `users` and `ndcg.SYSTEM`, `[V]` each, to be stored."""
        return {"users": self.users, **{f"ndcg.{name}": of for name, of in self.ndcg.items()}}


def evaluate(
    recommender: Recommender, holdout: Holdout, settings: Evaluation, seed: int
) -> Evaluated:
    """Measure every system on the users of a holdout, over the whole catalogue.

    The report has `systems` (by name, then metric: mean, low, high; and `coverage`) with seen items
    removed, and `all_items` with them; `more_k` (by cut, then system) has recall and NDCG at
    further cuts, and `per_positive` (by cut, then system) those of each pair by itself; `groups`
    divides the test (see `breakdown.groups`); `gain` is that of both stages over stage 1 in NDCG
    (paired); `recall@candidates`; `sources` (by name: `recall` and `marginal` recall of what each
    proposes, and `order`, the NDCG that the fusion loses without it, where there are several);
    `beyond` (by system: `diversity`, `popularity`, `debiased_ndcg` and `gini`, see
    `metrics.beyond`); `verdict` (see `verdict.verdict`); and facts (`users`, `interactions`,
    `users_in_test`, of whom `users` are a sample where they are fewer, `catalogue`,
    `cold_catalogue`, which is the part of it without interactions, `k`, `candidates`,
    `test_sha256`). Intervals are 95 % bootstrap intervals over users.

    Args:
        recommender: its two stages are measured; its reranker too where it did not earn its place.
        holdout: ground truth, and the snapshot that baselines are fitted on.
        settings: cuts, baselines, resamples.
        seed: of the bootstrap and of baselines.
    """
    every, holdout = holdout, some_users(holdout, settings.users)
    if len(holdout.users) < len(every.users):
        logger.info(
            "test: %s of %s users, drawn", *(f"{len(of.users):,}" for of in (holdout, every))
        )
    ranked = rank_systems(recommender, holdout, settings, seed)
    known, relevant, k = holdout.known, holdout.relevant, settings.k
    ndcg = {name: per_user(items, relevant, k)["ndcg"] for name, items in ranked.unseen.items()}
    parts = groups(holdout)
    columns = _systems(ranked, relevant, known, k) | _cuts(ranked, relevant, settings)
    columns |= _groups(ranked, parts, k) | _stages(ranked, relevant, ndcg)
    columns |= _beyond(ranked, relevant, known, k)
    report = nested(columns, settings.resamples, seed)
    _add_coverage(report, ranked, known.catalogue, k)
    baselines = [baseline.name for baseline in settings.baselines]
    report["verdict"] = verdict(
        ndcg, _served(recommender, ndcg), baselines, settings.resamples, seed
    )
    if ranked.proposed:
        merge = Merge(holdout, recommender.candidates, recommender.limits, k)
        report["sources"] = contributions(ranked.proposed, merge)
    for name, part in parts.items():
        report["groups"][name] = {**part.facts, "systems": report["groups"].get(name, {})}
    facts = _facts(recommender, holdout, k) | {"users_in_test": len(every.users)}
    return Evaluated(facts | report, holdout.users, ndcg)


def _served(recommender: Recommender, ndcg: Mapping[str, Array]) -> str:
    """Return the system of the report that answers requests."""
    if recommender.served in recommender.quotas:
        name = source_row(recommender.served)
        return name if name in ndcg else STAGE_1
    return BOTH_STAGES if recommender.reranks else STAGE_1


def _facts(recommender: Recommender, holdout: Holdout, k: int) -> dict[str, Any]:
    known = holdout.known
    return {
        "k": k,
        "users": len(holdout.users),
        "interactions": len(holdout.relevant.values),
        "catalogue": int(known.catalogue.sum()),
        "cold_catalogue": int(known.catalogue[known.statistics.item_count == 0].sum()),
        "candidates": recommender.candidates,
        "test_sha256": holdout_fingerprint(recommender.users, recommender.items, holdout),
        "more_k": {},
    }


def _systems(ranked: Rankings, relevant: Ragged, known: Snapshot, k: int) -> Columns:
    """Return every metric of every system, on unseen and on all items."""
    frequency = inverse_user_frequency(known.histories, len(known.inputs.warm_items))
    columns: Columns = {}
    for part, rankings in (("systems", ranked.unseen), ("all_items", ranked.all_items)):
        for name, items in rankings.items():
            values = per_user(items, relevant, k)
            for metric in NAMES:
                columns[part, name, metric] = mean_over_users(values[metric])
            columns[part, name, "novelty"] = mean_over_users(novelty(items, frequency, k))
    return columns


def _cuts(ranked: Rankings, relevant: Ragged, settings: Evaluation) -> Columns:
    """Return recall and NDCG at every cut: of each positive, and of users at further cuts."""
    columns: Columns = {}
    for k in sorted({settings.k, *settings.more_k}):
        for name, items in ranked.unseen.items():
            each = per_positive(items, relevant, k)
            users = per_user(items, relevant, k)
            for metric in ("recall", "ndcg"):
                columns["per_positive", str(k), name, metric] = each[metric], each["pairs"]
                if k != settings.k:
                    columns["more_k", str(k), name, metric] = mean_over_users(users[metric])
    return columns


def _groups(ranked: Rankings, parts: Mapping[str, Group], k: int) -> Columns:
    """Return recall and NDCG of every system where only a group's pairs count."""
    columns: Columns = {}
    for group, part in parts.items():
        for name, items in ranked.unseen.items() if part.facts["pairs"] else ():
            values = per_user(items, part.relevant, k)
            for metric in ("recall", "ndcg"):
                columns["groups", group, name, metric] = mean_over_users(values[metric])
    return columns


def _beyond(ranked: Rankings, relevant: Ragged, known: Snapshot, k: int) -> Columns:
    """Return diversity, popularity and debiased NDCG of every system on unseen items."""
    counts = known.statistics.item_count
    rows, weights = interaction_rows(known.histories, len(counts)), inverse_propensity(counts)
    columns: Columns = {}
    for name, items in ranked.unseen.items():
        values = {
            "diversity": diversity(items, rows, k),
            "popularity": popularity(items, counts, k),
            "debiased_ndcg": debiased_ndcg(items, relevant, weights, k),
        }
        columns |= {("beyond", name, key): mean_over_users(of) for key, of in values.items()}
    return columns


def _stages(ranked: Rankings, relevant: Ragged, ndcg: Mapping[str, Array]) -> Columns:
    """Return the ceiling of stage 2, and what it gains over stage 1."""
    ceiling = recall_at_candidates(ranked.candidates, relevant)
    columns: Columns = {("recall@candidates",): mean_over_users(ceiling)}
    if "both_stages" in ndcg:
        columns["gain", "ndcg"] = mean_over_users(ndcg["both_stages"] - ndcg["stage_1"])
    return columns


def recall_at_candidates(candidates: Array, relevant: Ragged) -> Array:
    """Return the recall of each user's candidates `[V, C]`, the ceiling of stage 2, `[V]`."""
    return per_user(candidates, relevant, candidates.shape[1])["recall"]


def _add_coverage(report: dict[str, Any], ranked: Rankings, catalogue: Array, k: int) -> None:
    """Add coverage and Gini of each system: they have no interval, for they are nobody's."""
    size = int(catalogue.sum())
    for name, items in ranked.unseen.items():
        report["beyond"][name]["gini"] = {"mean": gini(items, catalogue, k)}
    for part, rankings in (("systems", ranked.unseen), ("all_items", ranked.all_items)):
        for name, items in rankings.items():
            report[part][name]["coverage"] = {"mean": coverage(items[:, :k], size)}

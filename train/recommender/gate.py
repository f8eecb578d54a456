"""The gate: which system is served, and which sources it is made of, chosen on a holdout's users.

None of the systems was fitted on these users' interactions of the window: sources know only the
snapshot before it, and rerankers are scored out of fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.data.snapshot import Holdout
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.recommender.recommender import STAGE_1, Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import proposals
from train.sources.merge import fused

# Of what is served to a request alone, from the simplest.
SHAPES = ("list", "repeats", "item_to_item", "vectors", "tower")
# Users whose proposals are searched for at a time: the scores of a catalogue are in memory.
BLOCK = 1024


@dataclass(frozen=True)
class System:
    """A way to answer, measured.

    Attributes:
        name: a source, `stage_1` (the fusion), or a reranker.
        ndcg: of each user of the holdout, nan without ground truth, float64 `[V]`.
        simple: systems with a lower number are simpler.
        personal: whether answers depend on who asks.
    """

    name: str
    ndcg: Array
    simple: int
    personal: bool = True


def earning_sources(
    recommender: Recommender, holdout: Holdout
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the sources without which candidates would be worse, and what each contributes.

    A source's marginal recall is what the recall of the candidates loses without it. While a
    source has none, the one with the least is left out.

    Args:
        recommender: with several sources.
        holdout: users, and what they interact with.

    Returns:
        names in the order of the recommender, and by name `recall` at the quota, `marginal` (mean
        and 95 % bootstrap interval over users) and `kept`.
    """
    lists = _proposed_items(recommender, holdout)
    facts = contributions(lists, holdout, recommender.candidates)
    kept = list(lists)
    while len(kept) > 1:
        some = {name: lists[name] for name in kept}
        without = {n: _recall_without(n, some, holdout, recommender.candidates) for n in kept}
        whole = _recall(list(some.values()), holdout, recommender.candidates)
        marginal = {name: float(np.nanmean(whole - recall)) for name, recall in without.items()}
        least = min(kept, key=lambda name: marginal[name])
        if marginal[least] > 0:
            break
        kept.remove(least)
    for name in lists:
        facts[name]["kept"] = name in kept
    return tuple(kept), facts


def contributions(
    lists: Mapping[str, Array], holdout: Holdout, candidates: int
) -> dict[str, dict[str, Any]]:
    """Return each source's `recall` at its quota and its `marginal` recall, with intervals.

    Args:
        lists: what each source proposes, int32 `[V, D]`.
        holdout: its V users.
        candidates: how many are left of all proposals.
    """
    whole = _recall(list(lists.values()), holdout, candidates)
    facts = {}
    for name, items in lists.items():
        recall = per_user(items, holdout.relevant, items.shape[1])["recall"]
        lost = whole - _recall_without(name, lists, holdout, candidates)
        facts[name] = {"recall": interval(recall), "marginal": interval(lost)}
    return facts


def single_sources(recommender: Recommender, holdout: Holdout, k: int) -> list[System]:
    """Return each source alone as a system."""
    lists = _proposed_items(replace(recommender, candidates=k), holdout)
    systems = []
    for name, items in lists.items():
        source = recommender.sources.get(name)
        shape = "tower" if source is None else source.shape
        ndcg = per_user(items, holdout.relevant, k)["ndcg"]
        systems.append(System(name, ndcg, SHAPES.index(shape), shape != "list"))
    return systems


def chosen(systems: Sequence[System]) -> tuple[System, list[dict[str, Any]]]:
    """Return the simplest system within one standard error of the best, and the ladder.

    The standard error is that of the mean difference to the best over the same users (Breiman et
    al., 1984, section 3.4.3). A list that is the same for everybody is chosen only where it is the
    best: it is within the noise of many a better system where users are few.

    Returns:
        the system, and a row a system, simplest first: `system`, `ndcg` (mean), `behind` (mean
        difference of the best to it, with a 95 % interval) and `standard_error` of that.
    """
    ordered = sorted(systems, key=lambda system: system.simple)
    best = max(ordered, key=lambda system: float(np.nanmean(system.ndcg)))
    rows, suits = [], []
    for system in ordered:
        behind = best.ndcg - system.ndcg
        counted = behind[~np.isnan(behind)]
        error = float(counted.std(ddof=1) / np.sqrt(len(counted))) if len(counted) > 1 else 0.0
        rows.append(
            {
                "system": system.name,
                "ndcg": float(np.nanmean(system.ndcg)),
                "behind": interval(behind),
                "standard_error": error,
            }
        )
        if system is best or (system.personal and float(counted.mean()) <= error):
            suits.append(system)
    return suits[0], rows


def interval(values: Array) -> dict[str, float]:
    """Return the mean over users and its 95 % bootstrap interval."""
    mean, low, high = bootstrap(values)
    return {"mean": mean, "low": low, "high": high}


def _proposed_items(recommender: Recommender, holdout: Holdout) -> dict[str, Array]:
    everything = replace(recommender, served=STAGE_1)
    blocks = []
    for start in range(0, len(holdout.users), BLOCK):
        users = holdout.users[start : start + BLOCK]
        requests, vectors = of_known_users(everything, users), everything.user_vectors[users]
        blocks.append(proposals(everything, requests, vectors, everything.candidates))
    return {
        name: np.concatenate([found[name].items for found in blocks]) for name in everything.quotas
    }


def _recall(lists: Sequence[Array], holdout: Holdout, count: int) -> Array:
    items = fused(lists, count).items
    return per_user(items, holdout.relevant, count)["recall"]


def _recall_without(name: str, lists: Mapping[str, Array], holdout: Holdout, count: int) -> Array:
    others = [items for other, items in lists.items() if other != name]
    if not others:
        return np.zeros(len(holdout.users))
    return _recall(others, holdout, count)

"""The gate: which system is served, and which sources it is made of, chosen on a holdout's users.

None of the systems was fitted on these users' interactions of the window: sources know only the
snapshot before it, and rerankers are scored out of fold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.core.blocks import row_blocks
from train.core.ragged import Array
from train.data.snapshot import Holdout
from train.index.candidates import Queries
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.recommender.recommender import STAGE_1, Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates, proposals
from train.sources.merge import fused

# Of what is served to a request alone, from the simplest.
SHAPES = ("list", "grouped_list", "repeats", "item_to_item", "vectors", "tower")
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
    recommender: Recommender, holdout: Holdout, k: int
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the sources without which candidates would be worse, and what each contributes.

    A source's marginal recall is what the recall of the candidates loses without it, its marginal
    NDCG what the first k of the fusion lose. While a source has neither, the one with the least
    marginal recall is left out.

    Args:
        recommender: with several sources.
        holdout: users, and what they interact with.
        k: cutoff of NDCG.

    Returns:
        names in the order of the recommender, and by name `recall` at the quota, `marginal` recall
        and `order`, the marginal NDCG (means and 95 % bootstrap intervals over users), and `kept`.
    """
    lists = _proposed_items(recommender, holdout)
    merge = Merge(holdout, recommender.candidates, recommender.limits, k)
    facts = contributions(lists, merge)
    kept = dict(lists)
    while len(kept) > 1:
        whole = merge.measured(kept)
        lost = {name: _lost(whole, merge.measured(kept, name)) for name in kept}
        idle = [name for name in kept if max(lost[name].values()) <= 0]
        if not idle:
            break
        del kept[min(idle, key=lambda name: lost[name]["recall"])]
    for name in lists:
        facts[name]["kept"] = name in kept
    return tuple(kept), facts


@dataclass(frozen=True)
class Merge:
    """How proposals are merged and measured.

    Attributes:
        holdout: V users, and what they interact with.
        candidates: how many are left of all proposals.
        quotas: of the sources.
        k: cutoff of NDCG.
    """

    holdout: Holdout
    candidates: int
    quotas: Mapping[str, int]
    k: int

    def measured(self, lists: Mapping[str, Array], without: str | None = None) -> dict[str, Array]:
        """Return `recall` of the candidates and `ndcg` of the first k by user, float64 `[V]`.

        Args:
            lists: the best items of each source, int32 `[V, D]`.
            without: a source that is left out.
        """
        some = {name: items for name, items in lists.items() if name != without}
        if not some:
            nothing: Array = np.zeros(len(self.holdout.users))
            return {"recall": nothing, "ndcg": nothing}
        quotas = [self.quotas[name] for name in some]
        # Of each user there are all proposals of all sources while they are merged.
        blocks = [
            fused([items[rows] for items in some.values()], self.candidates, quotas).items
            for rows in row_blocks(len(self.holdout.users), BLOCK)
        ]
        items = np.concatenate(blocks) if blocks else np.zeros((0, self.candidates), np.int32)
        relevant = self.holdout.relevant
        recall = per_user(items, relevant, self.candidates)["recall"]
        return {"recall": recall, "ndcg": per_user(items[:, : self.k], relevant, self.k)["ndcg"]}


def contributions(lists: Mapping[str, Array], merge: Merge) -> dict[str, dict[str, Any]]:
    """Return each source's `recall` at its quota and what is lost without it, with intervals.

    Args:
        lists: the best items of each source, int32 `[V, D]`.
        merge: how they are merged.

    Returns:
        by name `recall`, `marginal` (recall of the candidates) and `order` (NDCG of the fusion).
    """
    whole, facts = merge.measured(lists), {}
    for name, items in lists.items():
        recall = per_user(items, merge.holdout.relevant, merge.quotas[name])["recall"]
        rest = merge.measured(lists, name)
        lost = {"marginal": whole["recall"] - rest["recall"], "order": whole["ndcg"] - rest["ndcg"]}
        facts[name] = {"recall": interval(recall)} | {key: interval(of) for key, of in lost.items()}
    return facts


def _lost(whole: Mapping[str, Array], rest: Mapping[str, Array]) -> dict[str, float]:
    return {key: float(np.nanmean(whole[key] - rest[key])) for key in whole}


def single_sources(recommender: Recommender, holdout: Holdout, k: int) -> list[System]:
    """Return each source alone as a system."""
    systems = []
    for name in recommender.quotas:
        alone, source = replace(recommender, served=name), recommender.sources.get(name)
        blocks = [
            find_candidates(alone, *asked, np.full(len(asked[1]), k)).items
            for asked in _asked(alone, holdout)
        ]
        shape = "tower" if source is None else source.shape
        ndcg = per_user(np.concatenate(blocks), holdout.relevant, k)["ndcg"]
        systems.append(System(name, ndcg, SHAPES.index(shape), shape != "list"))
    return systems


def chosen(systems: Sequence[System]) -> tuple[System, list[dict[str, Any]]]:
    """Return the simplest system within one standard error of the best, and the ladder.

    The standard error is that of the mean difference to the best over the same users (Breiman et
    al., 1984, section 3.4.3). A list that is the same for everybody is chosen only where it is the
    best: it is within the noise of many a better system where users are few. And one that is no
    better than a simpler one is not chosen: it may be within the error of the best where the
    simpler one is not, only because it differs from the best in more ways.

    Returns:
        the system, and a row a system, simplest first: `system`, `ndcg` (mean), `behind` (mean
        difference of the best to it, with a 95 % interval) and `standard_error` of that.
    """
    ordered = sorted(systems, key=lambda system: system.simple)
    best = max(ordered, key=lambda system: float(np.nanmean(system.ndcg)))
    rows, suits, simpler = [], [], -np.inf
    for system in ordered:
        behind = best.ndcg - system.ndcg
        counted = behind[~np.isnan(behind)]
        error = float(counted.std(ddof=1) / np.sqrt(len(counted))) if len(counted) > 1 else 0.0
        mean = float(np.nanmean(system.ndcg))
        rows.append(
            {
                "system": system.name,
                "ndcg": mean,
                "behind": interval(behind),
                "standard_error": error,
            }
        )
        near = system.personal and float(counted.mean()) <= error and mean > simpler
        if system is best or near:
            suits.append(system)
        simpler = max(simpler, mean)
    return suits[0], rows


def interval(values: Array) -> dict[str, float]:
    """Return the mean over users and its 95 % bootstrap interval."""
    mean, low, high = bootstrap(values)
    return {"mean": mean, "low": low, "high": high}


def _proposed_items(recommender: Recommender, holdout: Holdout) -> dict[str, Array]:
    """Return the best items of each source, as many as there are candidates, `[V, C]`."""
    whole = replace(recommender, served=STAGE_1)
    count = recommender.candidates
    blocks = [proposals(whole, *asked, count) for asked in _asked(whole, holdout)]
    return {name: np.concatenate([found[name].items for found in blocks]) for name in whole.quotas}


def _asked(recommender: Recommender, holdout: Holdout) -> Iterator[tuple[Queries, Array]]:
    """Yield the requests of each block of users, and their vectors."""
    for start in range(0, len(holdout.users), BLOCK):
        users = holdout.users[start : start + BLOCK]
        yield of_known_users(recommender, users), recommender.user_vectors[users]

"""Rankings of the catalogue for the users of a holdout by every system."""

import logging
from dataclasses import dataclass, field, replace

import numpy as np

from train.core.progress import Progress
from train.core.ragged import Array
from train.data.snapshot import Holdout
from train.evaluation.settings import Evaluation
from train.index.exact import rank_excluding
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import BOTH_STAGES, STAGE_1, Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import merged, proposals

logger = logging.getLogger(__name__)

# The features of so many users' candidates are in memory at once.
BLOCK = 1024


@dataclass(frozen=True)
class Rankings:
    """Items for the V users of a holdout, best first, -1 after the last.

    Attributes:
        unseen: by system, of what may be recommended to the user, int32 `[V, k]`: without items
            that the user has seen where these are excluded.
        all_items: by system, with them.
        candidates: those of stage 2, int32 `[V, C]`.
        proposed: the best items of each source, as many as its quota at least, int32 `[V, D]`;
            empty for one source.
    """

    unseen: dict[str, Array]
    all_items: dict[str, Array]
    candidates: Array
    proposed: dict[str, Array] = field(default_factory=dict)


def rank_systems(
    recommender: Recommender, holdout: Holdout, settings: Evaluation, seed: int
) -> Rankings:
    """Rank the catalogue for the holdout's users by baselines, sources, stage 1 and both stages.

    Rankings are as long as the largest cut of the settings. Both stages rank no more than the
    candidates, however long that is.
    """
    k = max((settings.k, *settings.more_k))
    unseen, all_items = _by_baselines(holdout, settings, k, seed)
    # As in serving, stage 2 is given at least what is asked for, and quotas are as they were.
    count = max(recommender.candidates, settings.k)
    recommender = replace(recommender, candidates=count, quotas=recommender.limits)
    ranked, proposed = _in_blocks(recommender, holdout.users, k, unseen=True)
    # Where seen items are ranked anyway, the rankings are the same.
    excludes = recommender.seen == "exclude"
    ranked_of_all = rank_stages(recommender, holdout.users, k, unseen=False) if excludes else ranked
    candidates = ranked[STAGE_1][:, :count]
    unseen |= {name: items[:, :k] for name, items in ranked.items()}
    all_items |= {name: items[:, :k] for name, items in ranked_of_all.items()}
    return Rankings(unseen, all_items, candidates, proposed)


def source_row(name: str) -> str:
    """Return the name of a source as a system of its own, apart from the baseline's name."""
    return f"source_{name}"


def rank_stages(
    recommender: Recommender, users: Array, k: int, unseen: bool = True
) -> dict[str, Array]:
    """Rank for known users by each source, by stage 1 and by both stages, in blocks of users.

    Args:
        recommender: its reranker orders the candidates whatever is served.
        users: indices `[B]`.
        k: how many items.
        unseen: whether items that a user has seen are left out.

    Returns:
        by system, -1 after the last: `source_NAME`, where there are several, and `stage_1`,
        int32 `[B, max(candidates, k)]`; `both_stages` `[B, k]`, where there is a reranker.
    """
    return _in_blocks(recommender, users, k, unseen)[0]


Lists = dict[str, Array]


def _in_blocks(recommender: Recommender, users: Array, k: int, unseen: bool) -> tuple[Lists, Lists]:
    """Return the rankings of systems, and what the sources propose where there are several."""
    measured = replace(recommender, served=BOTH_STAGES)
    blocks = [users[start : start + BLOCK] for start in range(0, len(users), BLOCK)]
    progress, parts = Progress(logger, "test", len(users)), []
    for block in blocks:
        parts.append(_rank_block(measured, block, k, unseen))
        progress.add(len(block))
    ranked, proposed = (
        {name: np.concatenate([part[name] for part in of]) for name in of[0]}
        for of in zip(*parts, strict=True)
    )
    return ranked, proposed


def _rank_block(
    recommender: Recommender, users: Array, k: int, unseen: bool
) -> tuple[Lists, Lists]:
    queries = of_known_users(recommender, users, None if unseen else "allow")
    vectors, count = recommender.user_vectors[users], max(recommender.candidates, k)
    found = proposals(recommender, queries, vectors, count)
    every = merged(recommender, queries, vectors, found, count)
    ranked = {}
    for name, part in found.items() if len(found) > 1 else ():
        alone = replace(recommender, served=name)
        ranked[source_row(name)] = merged(
            alone, queries, vectors, {name: part.first(count)}, count
        ).items
    proposed = {name: part.items for name, part in found.items() if len(found) > 1}
    ranked[STAGE_1] = every.items
    if recommender.reranker is not None:
        candidates = every.first(recommender.candidates)
        best, _ = rank_candidates(recommender, queries, vectors, candidates, k)
        ranked[BOTH_STAGES] = np.full((len(users), k), -1, dtype=np.int32)
        ranked[BOTH_STAGES][:, : best.shape[1]] = best
    return ranked, proposed


def _by_baselines(
    holdout: Holdout, settings: Evaluation, k: int, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the rankings of what may be recommended and of all items by baseline, [V, k] each."""
    known, users, unseen, all_items = holdout.known, holdout.users, {}, {}
    excludes = [holdout.hidden, holdout.excluded]
    for baseline in settings.baselines:
        logger.info("test: fitting and ranking by %s", baseline.name)
        score = baseline.fit(known, settings.recent_days, seed)
        all_items[baseline.name], unseen[baseline.name] = rank_excluding(
            holdout.rankable(score), users, known.catalogue, excludes, k
        )
    return unseen, all_items

"""Rankings of the catalogue for the users of a holdout by every system."""

from dataclasses import dataclass, replace

import numpy as np

from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.evaluation.settings import Evaluation
from train.index.candidates import Candidates
from train.index.exact import rank_excluding
from train.recommender.ranking import rank_candidates
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates

# The features of so many users' candidates are in memory at once.
BLOCK = 1024


@dataclass(frozen=True)
class Rankings:
    """Items for the V users of a holdout, best first, -1 after the last.

    Attributes:
        unseen: by system, without items that the user has seen, int32 `[V, k]`.
        all_items: by system, with them.
        candidates: those of stage 2, int32 `[V, C]`.
    """

    unseen: dict[str, Array]
    all_items: dict[str, Array]
    candidates: Array


def rank_systems(
    recommender: Recommender, holdout: Holdout, settings: Evaluation, seed: int
) -> Rankings:
    """Rank the catalogue for the holdout's users by each baseline, stage 1 and both stages.

    Rankings are as long as the largest cut of the settings. Both stages rank no more than the
    candidates, however long that is.
    """
    k = max((settings.k, *settings.more_k))
    unseen, all_items = _by_baselines(holdout, settings, k, seed)
    # As in serving, stage 2 is given at least what is asked for.
    recommender = replace(recommender, candidates=max(recommender.candidates, settings.k))
    both, found = rank_both(recommender, holdout.users, k)
    both_of_all, found_of_all = rank_both(recommender, holdout.users, k, unseen=False)
    unseen["stage_1"], all_items["stage_1"] = found[:, :k], found_of_all[:, :k]
    if recommender.reranker is not None:
        unseen["both_stages"], all_items["both_stages"] = both, both_of_all
    return Rankings(unseen, all_items, found[:, : recommender.candidates])


def rank_both(
    recommender: Recommender, users: Array, k: int, unseen: bool = True
) -> tuple[Array, Array]:
    """Rank for known users by both stages and by stage 1, in blocks of users.

    Args:
        recommender: its reranker orders the candidates whether it earned its place or not.
        users: indices `[B]`.
        k: how many items.
        unseen: whether items that a user has seen are left out.

    Returns:
        both stages' ranking `[B, k]` and stage 1's `[B, max(candidates, k)]`, -1 after the last.
    """
    measured = replace(recommender, earned=True)
    blocks = [users[start : start + BLOCK] for start in range(0, len(users), BLOCK)]
    ranked = [_rank_block(measured, block, k, unseen) for block in blocks]
    return np.concatenate([r for r, _ in ranked]), np.concatenate([c for _, c in ranked])


def _rank_block(
    recommender: Recommender, users: Array, k: int, unseen: bool
) -> tuple[Array, Array]:
    queries = of_known_users(recommender, users, unseen)
    vectors, count = recommender.user_vectors[users], recommender.candidates
    counts = np.full(len(users), max(count, k))
    every = find_candidates(recommender, queries, vectors, counts)
    found = every
    if recommender.reranker is not None:
        found = Candidates(every.items[:, :count], every.scores[:, :count])
    best, _ = rank_candidates(recommender, queries, vectors, found, k)
    ranked = np.full((len(users), k), -1, dtype=np.int32)
    ranked[:, : best.shape[1]] = best
    return ranked, every.items


def _by_baselines(
    holdout: Holdout, settings: Evaluation, k: int, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the rankings of unseen and of all items by baseline, [V, k] each."""
    known, users, unseen, all_items = holdout.known, holdout.users, {}, {}
    excludes = [Ragged.empty(len(users)), known.histories.take(users)]
    for baseline in settings.baselines:
        score = baseline.fit(known, settings.recent_days, seed)
        all_items[baseline.name], unseen[baseline.name] = rank_excluding(
            score, users, known.catalogue, excludes, k
        )
    return unseen, all_items

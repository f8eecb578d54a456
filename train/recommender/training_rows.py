"""Rows that stage 2 learns from: candidates of a holdout's users, labelled and described.

All candidates of all users would be some 100 KB a user. Those of a few thousand users are described
whole, to judge rerankers by; of further users only a sample, and only where it has a positive.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from train.core.progress import Progress
from train.core.ragged import Array, Ragged
from train.data.snapshot import Holdout
from train.index.candidates import Candidates, Queries
from train.recommender.ranking import described
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.rerankers.base import RerankerSettings
from train.rerankers.candidate_rows import CandidateRows, joined
from train.rerankers.features import feature_names
from train.rerankers.training_set import TrainingSet

logger = logging.getLogger(__name__)
# With fewer, each fold of the cross-validation has less than five, and NDCG is mostly noise.
MIN_GROUPS = 20
# NDCGs of two orders of a user's candidates differ with a deviation of some 0.15: of so many users
# the mean difference has a standard error of 0.002, and their rows take some 300 MB.
JUDGED_USERS = 5000


@dataclass(frozen=True)
class Bounds:
    """How much of a holdout is described.

    Attributes:
        judged: users whose candidates are described whole.
        rows: of further users, all together, at most.
        negatives: sampled of each of these, on average.
        block: users whose candidates are in memory at a time; it changes nothing in the result.
    """

    judged: int = JUDGED_USERS
    rows: int = RerankerSettings.model_fields["max_rows"].default
    negatives: int = RerankerSettings.model_fields["negatives"].default
    block: int = 1024

    @classmethod
    def of(cls, kinds: Sequence[RerankerSettings]) -> "Bounds":
        """Return bounds that are enough for each of these rerankers."""
        if not kinds:
            return cls(rows=0)
        rows, negatives = max(kind.max_rows for kind in kinds), min(k.negatives for k in kinds)
        return cls(rows=rows, negatives=negatives)


class TooFewError(ValueError):
    """Too few users interacted with one of their candidates to fit a reranker."""


def divided(holdout: Holdout, count: int) -> tuple[Holdout, Holdout]:
    """Return the users that rerankers are judged by, and all others in a random order."""
    # A fixed seed, not the run's: runs are compared on the same users.
    order = np.random.default_rng(0).permutation(len(holdout.users))
    return holdout.take(np.sort(order[:count])), holdout.take(order[count:])


def training_set(
    recommender: Recommender, holdout: Holdout, bounds: Bounds | None = None
) -> TrainingSet:
    """Return the holdout's users' candidates, labelled by their interactions in the holdout.

    Candidates and features know only the recommender's snapshot, so nothing of the holdout, from
    which the labels come, and nothing of the test can leak into them.

    Args:
        recommender: stage 1.
        holdout: the users, and what they interact with.
        bounds: how many of them; by default those of a reranker as it comes.

    Returns:
        the rows of users to judge by, and after these those of further users to learn from alone.
    """
    bounds = Bounds() if bounds is None else bounds
    judged, others = divided(holdout, bounds.judged)
    whole = list(_whole(recommender, judged, bounds.block))
    further = list(_sampled(recommender, others, bounds))
    truth, count = judged.relevant, sum(len(rows.user_vectors) for rows, _ in further)
    return TrainingSet(
        rows=joined([rows for rows, _ in (*whole, *further)]),
        labels=np.concatenate([labels for _, labels in (*whole, *further)]),
        item_vectors=recommender.item_vectors,
        feature_names=feature_names(recommender.described),
        ground_truth=Ragged(truth.values, np.pad(truth.offsets, (0, count), "edge")),
        judged=len(judged.users) if count else None,
    )


def sufficient_training_set(
    recommender: Recommender, holdout: Holdout, bounds: Bounds | None = None
) -> TrainingSet:
    """Return the `training_set`, checked to have enough requests with a positive.

    Raises:
        TooFewError: too few users interacted with one of their candidates.
    """
    training = training_set(recommender, holdout, bounds)
    positive = training.rows.query[training.labels > 0]
    groups = len(np.unique(positive[positive < training.requests_judged]))
    if groups < MIN_GROUPS:
        raise TooFewError(
            f"{groups} of {training.requests_judged} users of the validation window took one of "
            f"their {recommender.candidates} candidates in it, and a reranker needs {MIN_GROUPS}; "
            "widen the window (split), or raise candidates"
        )
    return training


def labels_of(rows: CandidateRows, ground_truth: Ragged, n_items: int) -> Array:
    """Return 1 where a row's item is in its request's ground truth, else 0, float32 `[R]`."""
    return _in_truth(rows.query, rows.item, ground_truth, n_items).astype(np.float32)


def _in_truth(query: Array, item: Array, ground_truth: Ragged, n_items: int) -> Array:
    positives = ground_truth.rows * n_items + ground_truth.values
    return np.isin(query * n_items + item, positives)


def _whole(
    recommender: Recommender, holdout: Holdout, block: int
) -> Iterator[tuple[CandidateRows, Array]]:
    """Yield all candidate rows of each block of users, and their labels."""
    progress = Progress(logger, "rerank", len(holdout.users))
    for part in _blocks(holdout, block):
        rows = described(recommender, *_retrieved(recommender, part.users))
        progress.add(len(part.users))
        yield rows, labels_of(rows, part.relevant, len(recommender.items))


def _sampled(
    recommender: Recommender, holdout: Holdout, bounds: Bounds
) -> Iterator[tuple[CandidateRows, Array]]:
    """Yield rows and labels of users with a positive, until the bound: positives, some negatives.

    Random numbers are drawn user by user, as many for each, so that blocks make no difference.
    """
    rng, left = np.random.default_rng(1), bounds.rows
    progress = Progress(logger, "rerank", left, "rows")
    for part in _blocks(holdout, bounds.block) if left else ():
        queries, vectors, found = _retrieved(recommender, part.users)
        place = np.arange(len(part.users))[:, None]
        positive = _in_truth(place, found.items, part.relevant, len(recommender.items))
        teaching = np.flatnonzero(positive.any(axis=1))
        present, positive = found.items[teaching] >= 0, positive[teaching]
        negatives = np.maximum((present & ~positive).sum(axis=1, keepdims=True), 1)
        probability = np.where(positive, 1, np.minimum(bounds.negatives / negatives, 1))
        drawn = (rng.random(positive.shape) < probability) & present
        fits = np.cumsum(drawn.sum(axis=1)) <= left
        kept = teaching[fits]
        if len(kept):
            rows = described(recommender, queries.take(kept), vectors[kept], found.take(kept))
            importance = (1 / probability[fits][present[fits]]).astype(np.float32)
            rows = replace(rows, importance=importance).take(drawn[fits][present[fits]])
            yield rows, labels_of(rows, part.relevant.take(kept), len(recommender.items))
        left -= int(drawn[fits].sum())
        progress.add(int(drawn[fits].sum()))
        if not fits.all():
            return


def _blocks(holdout: Holdout, block: int) -> Iterator[Holdout]:
    for start in range(0, len(holdout.users), block):
        yield holdout.take(np.arange(start, min(start + block, len(holdout.users))))


def _retrieved(recommender: Recommender, users: Array) -> tuple[Queries, Array, Candidates]:
    """Return the requests of known users, their vectors and their candidates."""
    queries, vectors = of_known_users(recommender, users), recommender.user_vectors[users]
    counts = np.full(len(users), recommender.candidates)
    return queries, vectors, find_candidates(recommender, queries, vectors, counts)

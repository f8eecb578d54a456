"""What users without a history get: they are no part of the test, and most of a young service."""

from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request

METRICS = ("ndcg", "recall", "hit_rate")


def measure_new_users(
    recommender: Recommender, interactions: Interactions, window: Array, k: int, seed: int
) -> dict[str, Any]:
    """Return the accuracy of what the service answers users of the test whom it does not know.

    They are asked for as in serving, by a request without a history, whose answer is the same for
    all of them.

    Args:
        recommender: as of the test's beginning.
        interactions: all of them.
        window: those of the test before any filter, bool `[N]`.
        k: the cut.
        seed: of the bootstrap.

    Returns:
        `users`, `interactions`, `source` of the answer, and `ndcg`, `recall` and `hit_rate` with
        95 % intervals over users; empty without such users.
    """
    ahead = interactions.take(window & interactions.positive)
    unknown = recommender.histories.lengths[ahead.user] == 0
    ahead = ahead.take(unknown & recommender.catalogue[ahead.item])
    keys = np.unique(ahead.keys(len(recommender.items)))
    if not len(keys):
        return {}
    users, row = np.unique(keys // len(recommender.items), return_inverse=True)
    items = (keys % len(recommender.items)).astype(np.int32)
    relevant = Ragged.from_pairs(row, items, len(users))
    answer = recommend(recommender, [Request(k=k)])[0]
    found = recommender.items.index([entry["item_id"] for entry in answer["items"]])
    ranked = np.full((len(users), k), -1, dtype=np.int32)
    ranked[:, : len(found)] = found
    values = per_user(ranked, relevant, k)
    intervals = (bootstrap(values[metric], seed=seed) for metric in METRICS)
    return {
        "users": len(users),
        "interactions": len(keys),
        "source": answer["source"],
        **{
            metric: dict(zip(("mean", "low", "high"), of, strict=True))
            for metric, of in zip(METRICS, intervals, strict=True)
        },
    }

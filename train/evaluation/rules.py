"""What rules cost: the NDCG of answers that follow them, beside that of answers that need not."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.data.snapshot import Holdout
from train.metrics.ranking import per_user
from train.recommender.answers import recommend
from train.recommender.gate import interval
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.recommender.rules import check

# Users that are asked for, and asked for at a time.
USERS = 2000
BLOCK = 256


def cost_of_rules(
    recommender: Recommender, test: Holdout, rules: Mapping[str, Any], k: int, seed: int
) -> dict[str, Any]:
    """Return the NDCG@k of test users with rules and without, and the difference.

    Answers are those that serving gives. Ground truth is all that the users took, also where the
    rules let it not be recommended: what is lost is what the rules cost.

    Args:
        recommender: fitted to what was before the test.
        test: users, and what they interact with.
        rules: fields of a `Request`.
        k: cutoff.
        seed: of the draw of at most 2,000 users.

    Returns:
        `k`, `users`, `without` and `with` (means), `difference` (mean and 95 % interval).

    Raises:
        RuleError: the bundle cannot follow them.
    """
    check(recommender, Request(k=k, **rules))
    count = min(USERS, len(test.users))
    rows = np.sort(np.random.default_rng(seed).choice(len(test.users), count, replace=False))
    relevant = test.relevant.take(rows)
    ndcg = [
        per_user(_answered(recommender, test.users[rows], own, k), relevant, k)["ndcg"]
        for own in ({}, rules)
    ]
    return {
        "k": k,
        "users": count,
        "without": float(np.nanmean(ndcg[0])),
        "with": float(np.nanmean(ndcg[1])),
        "difference": interval(ndcg[1] - ndcg[0]),
    }


def _answered(recommender: Recommender, users: Array, rules: Mapping[str, Any], k: int) -> Array:
    """Return what users are answered, int32 `[V, k]`, -1 after the last."""
    found = np.full((len(users), k), -1, dtype=np.int32)
    for start in range(0, len(users), BLOCK):
        ids = recommender.users.external(users[start : start + BLOCK])
        answers = recommend(recommender, [Request(user_id=one, k=k, **rules) for one in ids])
        for row, answer in enumerate(answers, start):
            items = recommender.items.index([item["item_id"] for item in answer["items"]])
            found[row, : len(items)] = items
    return found

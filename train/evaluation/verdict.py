"""The verdict of a test: whether what is served beats the best of the baselines."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.metrics.bootstrap import bootstrap_ratios


def verdict(
    ndcg: Mapping[str, Array], served: str, baselines: Collection[str], samples: int, seed: int
) -> dict[str, Any]:
    """Compare the NDCG of what is served with that of the best baseline, user by user.

    The best baseline is the one with the highest mean on this very test, which favors it.

    Args:
        ndcg: of each user by system, nan without ground truth, float64 `[V]`.
        served: the system that is served.
        baselines: the systems that it is compared with.
        samples: of the bootstrap over users.
        seed: likewise.

    Returns:
        `served`, `baseline`, `users`, and `gain`: the mean difference over the baseline's mean,
        with a 95 % interval; nan where the baseline's mean is 0. Empty without a baseline.
    """
    if not baselines:
        return {}
    best = max(baselines, key=lambda name: float(np.nanmean(ndcg[name])))
    counted = ~np.isnan(ndcg[served])
    ours, theirs = ndcg[served][counted], ndcg[best][counted]
    ends = bootstrap_ratios((ours - theirs)[:, None], theirs[:, None], samples, seed)
    names = ("mean", "low", "high")
    gain = {name: float(end[0]) for name, end in zip(names, ends, strict=True)}
    return {"served": served, "baseline": best, "users": int(counted.sum()), "gain": gain}

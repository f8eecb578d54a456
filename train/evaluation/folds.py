"""Mean and spread of every system's metrics over folds: the same protocol at several cuts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.metrics.ranking import NAMES


def summarized(reports: Sequence[Mapping[str, Any]], cuts: Sequence[int]) -> dict[str, Any]:
    """Return the mean and the standard deviation of each metric over folds.

    Args:
        reports: of `evaluate`, the newest fold first.
        cuts: where the test of each begins, seconds.

    Returns:
        `cuts`, `users` and `served` of each fold, and `systems`: by name and metric `mean`, `sd`
        (of a sample; 0 for one value) and `values`, None where a fold lacks the system.
    """
    names = list(dict.fromkeys(name for report in reports for name in report["systems"]))
    return {
        "cuts": list(cuts),
        "users": [report["users"] for report in reports],
        "served": [(report.get("verdict") or {}).get("served") for report in reports],
        "systems": {
            name: {metric: _spread(reports, name, metric) for metric in NAMES} for name in names
        },
    }


def _spread(reports: Sequence[Mapping[str, Any]], name: str, metric: str) -> dict[str, Any]:
    values = [
        report["systems"][name][metric]["mean"] if name in report["systems"] else None
        for report in reports
    ]
    there = np.array([value for value in values if value is not None], dtype=np.float64)
    sd = float(there.std(ddof=1)) if len(there) > 1 else 0.0
    return {"mean": float(there.mean()) if len(there) else None, "sd": sd, "values": values}

"""`python -m tests.benchmarks.generated [SEED ...]`: default fits of generated tables.

Nothing is set but the split of one of them. Prints, for each table and seed, the NDCG of what the
gate serves over that of the best tuned baseline of the test, with a 95 % interval, and the mean of
them all: that no public data are needed to see what a change of the defaults does.
"""

import logging
import sys
import tempfile
from typing import Any

import numpy as np

from train.bundle.bundle import check
from train.config import Run
from train.fit import fit

# Tastes that drift, tastes that stay and many items, and interactions that are split at random.
TABLES: dict[str, dict[str, Any]] = {
    "drifting": {"users": 500, "items": 150, "interactions": 15_000, "fading_days": 20},
    "lasting": {"users": 400, "items": 400, "interactions": 12_000, "tastes": 12},
    "random": {"users": 500, "items": 150, "interactions": 10_000, "tastes": 8},
}


def main(seeds: list[int]) -> None:
    """Fit each table with each seed."""
    gains = []
    for name, table in TABLES.items():
        for seed in seeds:
            verdict = fitted(name, table | {"seed": seed})
            gain = verdict["gain"]
            gains.append(gain["mean"])
            print(
                f"ratio  {name}, seed {seed}: {1 + gain['mean']:.3f} [{1 + gain['low']:.3f}, "
                f"{1 + gain['high']:.3f}] of {verdict['baseline']}, served {verdict['served']}",
                flush=True,
            )
    print(f"ratio  mean {1 + float(np.mean(gains)):.3f}")


def fitted(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict of a default fit."""
    split = {"split": {"name": "random"}} if name == "random" else {}
    with tempfile.TemporaryDirectory() as folder:
        table = {"storage": folder, "page": False, "train": {"workers": 0}, **split}
        run = Run.model_validate(table | {"data": {"name": "generated", **data}})
        verdict: dict[str, Any] = check(fit(run))[1]["metrics"]["verdict"]
    return verdict


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main([int(word) for word in sys.argv[1:]] or [0, 1, 2])

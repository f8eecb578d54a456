"""`python -m tests.benchmarks.picks --data FOLDER [NAME ...]`: ALS picks on fewer users.

Of each set (see `default_sets`) ALS picks its settings by fits to all interactions, and to a half,
a quarter and an eighth of them. Prints what is picked, the NDCG on the validation window of ALS
fitted to all interactions with that, and the seconds over those of picking on all.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.benchmarks.default_sets import SETS
from tests.benchmarks.defaults import runs
from train.adapt import adapted
from train.baselines.base import TUNED_ON, mean_ndcg
from train.baselines.factorizations import ALS
from train.config import Run
from train.data.snapshot import some_users
from train.steps import prepare, select_holdout

SHARES = (1, 2, 4, 8)


def main() -> None:
    """Measure the named sets, or two that are large enough to tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.picks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets")
    given = parser.parse_args()
    names = given.names or ["ml-1m", "gowalla"]
    with tempfile.TemporaryDirectory() as folder:
        for name, run in runs(names, given.data, [], Path(folder), []).items():
            measure(name, run)


def measure(name: str, run: Run) -> None:
    """Print a line a share."""
    data, folds = prepare(run)
    run = adapted(run, data)
    holdout = select_holdout(run, data, folds)
    some, whole = some_users(holdout, TUNED_ON), 0.0
    for share in SHARES:
        ALS.picked_on = len(holdout.known.interactions) // share
        begun = time.perf_counter()
        picked = ALS().tuned(holdout, 30, 10, 0)
        took = time.perf_counter() - begun
        whole = whole or took
        ndcg = mean_ndcg(picked.fit(holdout.known, 30, 0), some, 10)
        settings = picked.model_dump(include={"alpha", "regularization", "factors"})
        print(
            f"ratio  {name}, 1/{share} of the interactions: {took / whole:.2f} of the seconds, "
            f"NDCG@10 {ndcg:.4f} with {settings}",
            flush=True,
        )


if __name__ == "__main__":
    main()

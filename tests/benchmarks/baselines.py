"""Baselines with what is picked on a validation window, and the seconds that picking takes.

Run as `python -m tests.benchmarks.baselines`: on generated data, the ratios. With `--data FOLDER
[NAME ...]` also the picks on real data, by validation NDCG@10; no test is looked at. FOLDER has
`ml-100k.zip`, `ml-1m.zip`, `lastfm/user_artists.dat`, `amazon-beauty/interactions.parquet` and
`gowalla/train.txt.gz`; names are those of `READERS`.
"""

import argparse
import gzip
import io
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from train.baselines.base import Baseline, interaction_matrix, mean_ndcg
from train.baselines.factorizations import ALS, SVD
from train.baselines.knn import ItemKNN, UserKNN
from train.baselines.linear import EASE, _co_occurrences, _inverse
from train.baselines.popularity import Popularity, RecentPopularity
from train.baselines.sparse_ease import sparse_weights
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.encoded import encode
from train.data.linear_score import NONE
from train.data.pairs import first_pairs
from train.data.snapshot import Holdout, Snapshot, TowerInputs, some_users
from train.data.splits.base import TRAIN, VALIDATION
from train.data.splits.leave_last import LeaveLast
from train.data.splits.times import Time
from train.data.statistics import Statistics
from train.datasets.generated import Generated

DATA = Generated(users=3_000, items=3_000, interactions=100_000)
DEFAULTS = (Popularity(), RecentPopularity(), ItemKNN(), EASE(), ALS())
FURTHER = (UserKNN(), SVD())
K, RECENT_DAYS = 10, 7
Table = tuple[Array, Array, Array]  # users, items and times, [N]


def main() -> None:
    """Print the ratios, and the picks on the data that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.baselines")
    parser.add_argument("--data", type=Path, help="folder with real data")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(READERS)}; all by default")
    given = parser.parse_args()
    events = encode(DATA.load()).interactions
    holdout = window((events.user, events.item, events.timestamp), "time")
    picks("generated", holdout)
    of_linear_models(holdout.known)
    for name in given.names or READERS if given.data else ():
        reader, split = READERS[name]
        picks(name, window(reader(given.data), split))


def picks(name: str, holdout: Holdout) -> None:
    """Print what is picked for each baseline, its validation NDCG, and the seconds."""
    known, some, total = holdout.known, some_users(holdout, 2_000), 0.0
    print(
        f"{name}: {len(known.interactions):,} interactions known, "
        f"{known.inputs.warm_users.sum():,} users, {known.inputs.warm_items.sum():,} items, "
        f"{len(some.users):,} users rank",
        flush=True,
    )
    for baseline in (*DEFAULTS, *FURTHER):
        began = time.perf_counter()
        picked = baseline.tuned(holdout, RECENT_DAYS, K, 0)
        tuning = time.perf_counter() - began
        score = picked.fit(known, RECENT_DAYS, 0)
        fitting = time.perf_counter() - began - tuning
        total += tuning + fitting if baseline in DEFAULTS else 0
        print(
            f"  {baseline.name:18} NDCG@{K} {mean_ndcg(score, some, K):.4f}  picked in "
            f"{tuning:6.1f} s, fitted in {fitting:5.1f} s: {_set(picked)}",
            flush=True,
        )
    print(f"  all that are there by default: {total:.0f} s", flush=True)


def of_linear_models(known: Snapshot) -> None:
    """Print how long EASE takes by each way to its weights."""
    matrix = interaction_matrix(known.interactions, known.inputs)
    pairs = _co_occurrences(matrix)
    exact = pairs.astype(np.float64) + 100 * np.eye(len(pairs))
    inverse = seconds(partial(np.linalg.inv, exact))
    cholesky = seconds(partial(_inverse, pairs, 100))
    sparse = seconds(partial(sparse_weights, matrix, [100.0]))
    error = np.abs(_inverse(pairs, 100) - np.linalg.inv(exact)).max()
    print(
        f"{len(pairs):,} items: float64 inverse {inverse:.2f} s, float32 Cholesky {cholesky:.2f} s "
        f"(off by {error * 100:.0e} of 1 / penalty), 50 neighbours of each {sparse:.2f} s"
    )
    print(f"ratio  float64 inverse / float32 Cholesky  {inverse / cholesky:.1f}")
    print(f"ratio  float64 inverse / 50 neighbours of each item  {inverse / sparse:.1f}")


def seconds(call: Callable[[], object]) -> float:
    """Return the least of three times of a call."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def window(table: Table, split: str) -> Holdout:
    """Return a validation window and what was known before it."""
    user, item = (np.unique(ids, return_inverse=True)[1] for ids in table[:2])
    events = Interactions.ordered(user, item, table[2], np.ones(len(user)))
    n_users, n_items = int(events.user.max()) + 1, int(events.item.max()) + 1
    fold, as_of = _folds(events, split, n_users, n_items)
    past = events.take(fold == TRAIN)
    statistics = Statistics.from_interactions(past, n_users, n_items, as_of)
    warm = statistics.user_count > 0, statistics.item_count > 0
    known = Snapshot(
        hidden=Ragged.empty(n_users),
        interactions=past,
        as_of=as_of,
        histories=Ragged.from_pairs(past.user, past.item, n_users),
        statistics=statistics,
        linear_score=NONE.fit(past, n_users, n_items),
        inputs=TowerInputs(Features.empty(n_users), Features.empty(n_items), *warm),
        catalogue=warm[1],
    )
    counts = (fold == VALIDATION) & first_pairs(events, n_items)
    counts &= warm[0][events.user] & warm[1][events.item]
    ahead = events.take(counts)
    users, row = np.unique(ahead.user, return_inverse=True)
    return Holdout(users.astype(np.int32), Ragged.from_pairs(row, ahead.item, len(users)), known)


def _folds(events: Interactions, split: str, n_users: int, n_items: int) -> tuple[Array, int]:
    """Return the folds by time, by the last of each user, or at random where there are no times."""
    if split == "random":
        share = np.random.default_rng(0).random(len(events))
        return np.where(share < 0.1, VALIDATION, TRAIN), 1
    folds = {"time": Time(), "leave_last": LeaveLast()}[split].folds(events, n_users, n_items)
    return folds.fold, folds.t1


def _set(baseline: Baseline) -> str:
    free = [key for stage in baseline.grid for key in stage]
    return ", ".join(f"{key} = {getattr(baseline, key)}" for key in free) or "nothing to pick"


def _movielens(archive: str, name: str, data: Path) -> Table:
    with zipfile.ZipFile(data / archive) as files:
        [path] = [path for path in files.namelist() if path.endswith(name)]
        text = files.read(path).decode().replace("::", "\t")
    user, item, _, times = np.loadtxt(io.StringIO(text), dtype=np.int64, delimiter="\t").T
    return user, item, times


def _lastfm(data: Path) -> Table:
    user, item, _ = np.loadtxt(data / "lastfm/user_artists.dat", dtype=np.int64, skiprows=1).T
    return user, item, np.zeros(len(user), np.int64)


def _beauty(data: Path) -> Table:
    table = pq.read_table(data / "amazon-beauty/interactions.parquet")
    user, item, place = (
        np.asarray(table[name].to_pylist()) for name in ("user_id", "item_id", "position")
    )
    return user, item, place.astype(np.int64)


def _gowalla(data: Path) -> Table:
    with gzip.open(data / "gowalla/train.txt.gz", "rt") as lines:
        rows = [np.array(line.split(), dtype=np.int64) for line in lines]
    user = np.concatenate([np.full(len(row) - 1, row[0]) for row in rows])
    return user, np.concatenate([row[1:] for row in rows]), np.zeros(len(user), np.int64)


READERS: Mapping[str, tuple[Callable[[Path], Table], str]] = {
    "ml-100k": (partial(_movielens, "ml-100k.zip", "u.data"), "time"),
    "ml-1m": (partial(_movielens, "ml-1m.zip", "ratings.dat"), "time"),
    "lastfm": (_lastfm, "random"),
    "beauty": (_beauty, "leave_last"),
    "gowalla": (_gowalla, "random"),
}


if __name__ == "__main__":
    main()

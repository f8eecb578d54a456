"""Scores that do not depend on the user: one pass over the catalogue against a pass for each user.

Run as `python -m tests.benchmarks.content`. Both rank the top 10 of all users by the same trees;
the passes for each user are timed on a sample and taken for all.
"""

import time

import numpy as np

from train.baselines.base import same_for_all
from train.baselines.content_trees import CatBoostContent, columns
from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.data.encoded import encode
from train.data.snapshot import Snapshot, snapshot
from train.datasets.generated import Generated
from train.index.exact import rank_scores

DATA = Generated(users=5_000, items=5_000, interactions=200_000)
SAMPLE, ITERATIONS = 20, 200


def main() -> None:
    """Print the seconds of each, and the ratio."""
    data = encode(DATA.load())
    known = snapshot(data, np.ones(len(data.interactions), dtype=bool), 2**40, 7)
    baseline = CatBoostContent(iterations=ITERATIONS)
    given = columns(known.inputs.item_features)
    model = baseline.model(given, baseline._counts(known, 0), 0)

    began = time.perf_counter()
    once = ranked(known, model.predict(given))
    one_pass = time.perf_counter() - began

    users = np.arange(len(once))[:: len(once) // SAMPLE]
    began = time.perf_counter()
    each = np.array([in_turn(known, model.predict(given), int(user)) for user in users])
    in_turns = (time.perf_counter() - began) / len(users) * len(once)

    np.testing.assert_array_equal(each, once[users])
    print(
        f"{len(once):,} users, {len(data.items):,} items, {ITERATIONS} trees: one pass "
        f"{one_pass:.2f} s, a pass for each user {in_turns:.0f} s (from {len(users)} of them)"
    )
    print(f"ratio  a pass for each user / one pass  {in_turns / one_pass:.0f}")


def ranked(known: Snapshot, scores: Array) -> Array:
    users, warm = np.arange(len(known.histories)), known.inputs.warm_items
    return rank_scores(same_for_all(scores), users, warm, known.histories, 10)


def in_turn(known: Snapshot, scores: Array, user: int) -> Array:
    seen: Ragged = known.histories.take(np.array([user]))
    scores = np.where(known.inputs.warm_items, scores, -np.inf)
    scores[seen.values] = -np.inf
    index, _ = top_k(scores[None], 10)
    return np.asarray(index[0])


if __name__ == "__main__":
    main()

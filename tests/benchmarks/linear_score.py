"""The linear score: its fit against the sparse products in it, and what it adds to a request.

Run as `python -m tests.benchmarks.linear_score`. A randomized SVD passes over what was taken
fourteen times, with ten columns more than its rank: the floor is these products alone.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.benchmarks.softmax import seconds
from train.core.ragged import Array, Ragged
from train.data.encoded import encode
from train.data.linear_score import LinearScore
from train.data.snapshot import snapshot
from train.datasets.generated import Generated
from train.index.candidates import Candidates, Queries
from train.rerankers.features import FeatureInputs, candidate_features

DATA = Generated(users=20_000, items=10_000, interactions=1_000_000)
SCORE = LinearScore(rank=64)
PASSES, OVERSAMPLED = 14, 10
REQUESTS, CANDIDATES = 200, 200


def main() -> None:
    """Print the seconds of each, and the ratios."""
    data = encode(DATA.load())
    n_users, n_items = len(data.users), len(data.items)
    everything = np.ones(len(data.interactions), dtype=bool)
    known = snapshot(data, everything, 2**40, 7, linear_score=SCORE)
    taken = data.interactions.summed(np.ones(len(data.interactions)), n_users, n_items)

    fit = least(lambda: SCORE.fit(data.interactions, n_users, n_items))
    wide = np.ones((n_items, SCORE.rank + OVERSAMPLED), np.float32)
    product = least(lambda: taken.T @ (taken @ wide))
    floor = product * PASSES / 2
    print(f"{taken.nnz:,} pairs, rank {SCORE.rank}: fit {fit:.2f} s, its products {floor:.2f} s")
    print(f"ratio  fit / sparse products  {fit / floor:.1f}")

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n_items, 32)).astype(np.float32)
    plain = FeatureInputs(vectors, data.item_features, data.user_features, known.statistics)
    described = replace(plain, linear_score=known.linear_score)
    users = rng.choice(n_users, REQUESTS, replace=False)
    with_score, without = (asked(one, known.histories, users) for one in (described, plain))
    print(f"a request: {1e6 * with_score:.0f} us with the score, {1e6 * without:.0f} us without")
    print(f"ratio  features with / without the linear score  {with_score / without:.2f}")


def asked(inputs: FeatureInputs, histories: Ragged, users: Array) -> float:
    """Return the seconds in which the candidates of one request are described."""
    rng = np.random.default_rng(1)
    items = rng.integers(0, len(inputs.item_vectors), (1, CANDIDATES)).astype(np.int32)
    found = Candidates(items, np.zeros(items.shape, np.float32))
    queries = []
    for user in users:
        history = histories.take(np.array([user]))
        queries.append(Queries(np.array([user], np.int32), history, history))
    candidate_features(inputs, queries[0], found)  # makes the tables
    return least(lambda: [candidate_features(inputs, q, found) for q in queries]) / len(users)


def least(call: Callable[[], object]) -> float:
    """Return the least seconds of three calls."""
    return min(seconds(call) for _ in range(3))


if __name__ == "__main__":
    main()

"""Whole-catalogue evaluation of all users: matrix products against a plain loop over users.

Run as `python -m tests.benchmarks.evaluation`; it prints users/s of both, and the ratio;
and, for comparison, users/s of a loop that takes each user's product and sort in numpy.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.metrics.ranking import per_user

USERS, ITEMS, WIDTH, SEEN, RELEVANT, K = 6_040, 3_706, 64, 160, 20, 10
LOOP_USERS, BLOCK = 12, 512


def synthetic(seed: int = 0) -> tuple[Array, Array, Ragged, Ragged]:
    """Return user vectors, item vectors, seen and relevant items, of the size of MovieLens-1M."""
    rng = np.random.default_rng(seed)
    vectors = [rng.standard_normal((n, WIDTH), dtype=np.float32) for n in (USERS, ITEMS)]
    chosen = np.argsort(rng.random((USERS, ITEMS), dtype=np.float32))[:, : SEEN + RELEVANT]
    parts = (chosen[:, :SEEN], chosen[:, SEEN:])
    rows = [np.repeat(np.arange(USERS), part.shape[1]) for part in parts]
    seen, relevant = (
        Ragged.from_pairs(row, part.ravel(), USERS) for row, part in zip(rows, parts, strict=True)
    )
    return vectors[0], vectors[1], seen, relevant


def by_products(users: Array, items: Array, seen: Ragged, relevant: Ragged) -> dict[str, Array]:
    """Evaluate every user: a product, a mask and a top k for each block of users."""
    ranked = np.empty((len(users), K), dtype=np.int32)
    for start in range(0, len(users), BLOCK):
        block = slice(start, start + BLOCK)
        scores = users[block] @ items.T
        known = seen.take(np.arange(len(users))[block])
        scores[known.rows, known.values] = -np.inf
        ranked[block] = top_k(scores, K)[0]
    return per_user(ranked, relevant, K)


def by_loop(users: Array, items: Array, seen: Ragged, relevant: Ragged) -> dict[str, Array]:
    """Evaluate the users one by one in plain Python: the program that has no arrays."""
    item_lists = items.tolist()
    rows = []
    for user, vector in enumerate(users.tolist()):
        known, wanted = (_row(ragged, user) for ragged in (seen, relevant))
        scores = [
            (-sum(a * b for a, b in zip(vector, other, strict=True)), item)
            for item, other in enumerate(item_lists)
            if item not in known
        ]
        rows.append(_measures([item for _, item in sorted(scores)[:K]], wanted))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def by_numpy_loop(users: Array, items: Array, seen: Ragged, relevant: Ragged) -> dict[str, Array]:
    """Evaluate the users one by one, each with a product and a sort in numpy."""
    rows = []
    for user, vector in enumerate(users):
        scores = items @ vector
        scores[list(_row(seen, user))] = -np.inf
        rows.append(_measures(np.argsort(-scores)[:K].tolist(), _row(relevant, user)))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _row(ragged: Ragged, row: int) -> set[int]:
    return set(ragged.values[ragged.offsets[row] : ragged.offsets[row + 1]].tolist())


def _measures(ranked: list[int], wanted: set[int]) -> dict[str, float]:
    hits = [item in wanted for item in ranked]
    fits = min(len(wanted), K)
    ideal = sum(1 / math.log2(place + 2) for place in range(fits))
    precisions = [sum(hits[: place + 1]) / (place + 1) for place in range(K)]
    return {
        "recall": sum(hits) / len(wanted),
        "ndcg": sum(hit / math.log2(place + 2) for place, hit in enumerate(hits)) / ideal,
        "map": sum(hit * p for hit, p in zip(hits, precisions, strict=True)) / fits,
        "mrr": 1 / (1 + hits.index(True)) if any(hits) else 0.0,
        "hit_rate": float(any(hits)),
        "precision": sum(hits) / K,
    }


def users_per_second(evaluate: Callable[..., Any], count: int, repeats: int, *data: Any) -> float:
    """Return the users/s of the median of `repeats` evaluations of `count` users."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        evaluate(*data)
        seconds.append(time.perf_counter() - start)
    return count / float(np.median(seconds))


def main() -> None:
    """Check that both give the same figures, then time both."""
    users, items, seen, relevant = synthetic()
    few = np.arange(LOOP_USERS)
    part = (users[few], items, seen.take(few), relevant.take(few))
    expected = by_loop(*part)
    for name, values in by_products(users, items, seen, relevant).items():
        np.testing.assert_allclose(values[few], expected[name], rtol=1e-9, err_msg=name)
    products = users_per_second(by_products, USERS, 5, users, items, seen, relevant)
    loop = users_per_second(by_loop, LOOP_USERS, 3, *part)
    numpy_loop = users_per_second(by_numpy_loop, USERS, 1, users, items, seen, relevant)
    print(f"{USERS:,} users, {ITEMS:,} items, {WIDTH} dimensions, all metrics @{K}")
    print(f"matrix products  {products:12,.0f} users/s")
    print(f"loop over users  {loop:12,.1f} users/s  ({LOOP_USERS} users)")
    print(f"loop with numpy  {numpy_loop:12,.1f} users/s  (for comparison)")
    print(f"ratio            {products / loop:12,.0f} x (target 100)")


if __name__ == "__main__":
    main()

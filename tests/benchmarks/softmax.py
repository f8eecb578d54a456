"""The in-batch softmax in blocks against the same over one matrix of scores, forward and backward.

Run as `python -m tests.benchmarks.softmax`. One thread, B positives against the B of the batch.
The floor is what the three matrix products of B x B x d take by themselves.

Then users with 27 positives each, as many as in Gowalla, against drawn negatives: scored once a
user against once a positive.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from train.ops.softmax import SampleInfo, softmax_loss

WIDTH, ITEMS, ROUNDS = 64, 5_000, 7
USERS, EACH, DRAWN, CATALOGUE = 256, 27, 4_096, 40_981


def main() -> None:
    """Print the time of each at some batch sizes, taking turns, and the ratio."""
    torch.set_num_threads(1)
    for batch in (1024, 2048, 4096):
        ours, plain, floor = measure(batch)
        print(
            f"B = {batch}: blocks {1e3 * ours:.1f} ms ({batch / ours:,.0f} examples/s), "
            f"one matrix {1e3 * plain:.1f} ms, floor {1e3 * floor:.1f} ms"
        )
        print(f"ratio  one matrix / blocks at B = {batch}  {plain / ours:.1f}")
        print(f"ratio  blocks / floor at B = {batch}  {ours / floor:.2f}")

    once, each = users()
    print(f"{USERS} users of {EACH}: a user {1e3 * once:.1f} ms, a positive {1e3 * each:.1f} ms")
    print(f"ratio  a row of scores a positive / a user  {each / once:.1f}")


def users() -> list[float]:
    """Return the median seconds of users' positives with shared and with own rows of scores."""
    torch.manual_seed(0)
    sizes = USERS, USERS * EACH, DRAWN
    vectors, positives, drawn = (torch.randn(size, WIDTH).requires_grad_() for size in sizes)
    ids, negative_ids = (torch.randint(CATALOGUE, (size,)) for size in (USERS * EACH, DRAWN))
    rows = torch.arange(USERS).repeat_interleave(EACH)
    alone = SampleInfo(positive_ids=ids, negative_ids=negative_ids)
    shared = replace(alone, rows=rows)
    return taking_turns(
        [
            lambda: softmax_loss(vectors, positives, drawn, shared).backward(),
            lambda: softmax_loss(vectors[rows], positives, drawn, alone).backward(),
        ]
    )


def measure(batch: int) -> list[float]:
    """Return the median seconds of the blocks, of the one matrix and of the products alone."""
    torch.manual_seed(0)
    users, items = (torch.randn(batch, WIDTH).requires_grad_() for _ in range(2))
    index, scores, log_q = torch.randint(ITEMS, (batch,)), torch.randn(batch, batch), -torch.ones(1)
    log_q = log_q.expand(batch)
    calls: list[Callable[[], object]] = [
        lambda: blocks(users, items, index, log_q).backward(),
        lambda: matrix(users, items, index, log_q).backward(),
        lambda: products(users, items, scores),
    ]
    return taking_turns(calls)


def taking_turns(calls: list[Callable[[], object]]) -> list[float]:
    """Return the median seconds of each call."""
    times = [[seconds(call) for call in calls] for _ in range(ROUNDS)]
    return [median(column) for column in zip(*times, strict=True)]


def blocks(users: Tensor, items: Tensor, index: Tensor, log_q: Tensor) -> Tensor:
    sample = SampleInfo(
        positive_ids=index, negative_ids=index, positive_log_q=log_q, negative_log_q=log_q
    )
    return softmax_loss(users, items, items, sample)


def matrix(users: Tensor, items: Tensor, index: Tensor, log_q: Tensor) -> Tensor:
    own = (users * items).sum(1) - log_q
    hits = index[:, None] == index
    others = (users @ items.T - log_q).masked_fill(hits, -1e9).logsumexp(1)
    return (torch.logaddexp(own, others) - own).mean()


@torch.no_grad()
def products(users: Tensor, items: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return users @ items.T, scores @ items, scores.T @ users


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

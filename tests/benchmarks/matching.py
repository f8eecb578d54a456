"""Scores of pairs over a whole catalogue: the first layer in halves against all layers a pair.

Run as `python -m tests.benchmarks.matching`. Both give the same top 10 of 53,016 items of 206
numbers by the same layers, 412-256-64-1, on as many threads as there are cores. The other way is
study A's: a user's vector beside that of every item, through all layers, for each user anew. The
floor is the product with the second layer's weights by itself.
"""

from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from tests.benchmarks.softmax import seconds
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.data.snapshot import TowerInputs
from train.index.pair_index import ROWS, PairIndex
from train.towers.encode import encode_catalogue, encode_users
from train.towers.layers import PairLayers
from train.towers.matching_mlp import MatchingMLP
from train.towers.model import TwoTowerModel
from train.towers.pooling import Pooled

ITEMS, NUMBERS, USERS, TAKEN, K = 53_016, 206, 64, 20, 10
SAMPLE, ROUNDS = 2, 5


def main() -> None:
    """Check that both find the same items, and print the users/s of each and of the floor."""
    given = np.random.default_rng(0).standard_normal((ITEMS, NUMBERS), dtype=np.float32)
    model, index, histories = matching(given)
    users = encode_users(model, np.full(USERS, -1), histories)
    net, items = whole(model), torch.from_numpy(given)
    means = given[histories.values].reshape(USERS, TAKEN, NUMBERS).mean(axis=1)
    sample = torch.from_numpy(means[:SAMPLE])

    same(index.search(users[:SAMPLE], K), in_turn(net, sample, items))
    calls: list[tuple[int, Callable[[], object]]] = [
        (USERS, lambda: index.search(users, K)),
        (SAMPLE, lambda: in_turn(net, sample, items)),
        (USERS, products(index)),
    ]
    times = [[count / seconds(call) for count, call in calls] for _ in range(ROUNDS)]
    ours, theirs, floor = (median(column) for column in zip(*times, strict=True))
    print(
        f"{ITEMS:,} items, {torch.get_num_threads()} threads: halves {ours:.1f} users/s "
        f"(target 40), whole {theirs:.2f} users/s, floor {floor:.1f} users/s"
    )
    print(f"ratio  halves / whole  {ours / theirs:.1f} (target 10)")
    print(f"ratio  halves / floor  {ours / floor:.2f}")


def matching(given: Array) -> tuple[TwoTowerModel, PairIndex, Ragged]:
    """Return towers over items of these numbers, the index of their items, and histories."""
    torch.manual_seed(0)
    names = tuple(f"number_{n}" for n in range(NUMBERS))
    features = Features(given, names, Ragged.empty(ITEMS), ())
    warm = np.ones(USERS, bool), np.ones(ITEMS, bool)
    model = MatchingMLP().build(TowerInputs(Features.empty(USERS), features, *warm)).eval()
    assert model.head is not None
    index = PairIndex.build(encode_catalogue(model), warm[1], model.head.trained())
    taken = np.random.default_rng(1).integers(0, ITEMS, USERS * TAKEN).astype(np.int32)
    return model, index, Ragged(taken, np.arange(USERS + 1) * TAKEN)


def whole(model: TwoTowerModel) -> nn.Module:
    """Return the same layers over the numbers of both sides, `[I, 412] -> [I, 1]`."""
    history, head, attributes = model.history, model.head, model.item_input.attributes
    assert isinstance(history, Pooled) and isinstance(head, PairLayers)
    assert attributes is not None and attributes.linear is not None
    first, half = nn.Linear(2 * NUMBERS, 256), attributes.linear.weight
    with torch.no_grad():
        first.weight.copy_(torch.cat([history.linear.weight @ half, half], dim=1))
        first.bias.copy_(history.linear.bias)
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(0.2), head.wide, nn.ReLU(), head.out).eval()


@torch.no_grad()
def in_turn(net: nn.Module, users: Tensor, items: Tensor) -> tuple[Array, Array]:
    """Return the best items and their scores for each of the users `[B, 206]`, as study A does."""
    best = [net(torch.cat([u.repeat(ITEMS, 1), items], dim=1))[:, 0].topk(K) for u in users]
    return np.array([b.indices.numpy() for b in best]), np.array([b.values.numpy() for b in best])


def same(ours: tuple[Array, Array], theirs: tuple[Array, Array]) -> None:
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-4)


def products(index: PairIndex) -> Callable[[], object]:
    """Return the product of the second layer for all users and items, block by block."""
    weights = index.head.weights["wide.weight"].T
    block = index.vectors[:ROWS]
    room = np.empty((len(block), weights.shape[1]), np.float32)
    count = round(USERS * ITEMS / len(block))
    return lambda: [np.matmul(block, weights, out=room) for _ in range(count)]


if __name__ == "__main__":
    main()

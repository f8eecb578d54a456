"""Scores of pairs that are no inner product: a first layer that is split, and layers over the sum.

Over the concatenation of both sides a first layer is a sum, `W [u; i] = W_u u + W_i i`, so each
side's half is computed once, and is that side's vector. Of vectors `[g | m]` the score is
`g_u . g_i + f(relu(m_u + m_i))`: MatchingMLP where there is no g, NeuMF where there is (He et al.,
NCF, WWW 2017; its generalised matrix factorisation is g).

Shapes: B users, M items, w width of vectors, F factors in g.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.index.base import Index, check_search
from train.index.subset import Subset

FILE = "head.safetensors"
EXHAUSTIVE = "exhaustive"
ROWS = 512  # both layers of so many pairs stay in the second-level cache
BLOCK = 256  # users whose scores of the whole catalogue are in memory at a time
ALONE = Lock()  # held while BLAS has one thread


@dataclass(frozen=True)
class PairHead:
    """The layers over both halves in numpy, for the whole catalogue.

    Attributes:
        weights: float32, by the names of the parameters of `train.towers.layers.PairLayers`.
    """

    weights: Mapping[str, Array]

    def scores(self, users: Array, items: Array) -> Array:
        """Return the scores of all pairs of users `[B, w]` and items `[M, w]`, float32 `[B, M]`.

        As `relu(u + i)` is `max(i, -u) + u`, and the layer over it is linear, its output for the
        second u is the same for all items. So is that of the second layer, and a pair costs one
        comparison an element beside the matrix product.
        """
        wide, out = self.weights["wide.weight"], self.weights["out.weight"][0]
        factors = items.shape[1] - wide.shape[1]
        scores = np.asarray(users[:, :factors] @ items[:, :factors].T, dtype=np.float32)
        shift = users[:, factors:] @ wide.T + self.weights["wide.bias"]
        scores += (shift @ out)[:, None]
        lowest, least = -users[:, None, factors:], -shift[:, None]
        columns = min(ROWS, max(1, len(items)))
        rows = ROWS // columns

        def add(starts: range) -> None:
            room = [np.empty((rows * columns, width), np.float32) for width in wide.T.shape]
            # Items are read from memory once for all users, and stay in the cache meanwhile.
            for start in starts:
                block = items[start : start + columns, factors:]
                for first in range(0, len(users), rows):
                    part = slice(first, first + rows)
                    above = self._above(lowest[part], least[part], block, room)
                    scores[part, start : start + columns] += above

        _on_all_cores(add, range(0, len(items), columns))
        return scores

    def _above(self, lowest: Array, least: Array, items: Array, room: list[Array]) -> Array:
        """Return the layers' share of the scores of users and items, `[b, m]`.

        Args:
            lowest: minus the users' halves of the first layer, `[b, 1, w - F]`.
            least: minus the second layer's output for these, with its bias, `[b, 1, hidden]`.
            items: their halves of the first layer, `[m, w - F]`.
            room: for the values of both layers, a row a pair.
        """
        shape = len(lowest), len(items)
        first, second = (place[: shape[0] * shape[1]] for place in room)
        np.maximum(lowest, items, out=first.reshape(*shape, -1))
        np.matmul(first, self.weights["wide.weight"].T, out=second)
        hidden = second.reshape(*shape, -1)
        np.maximum(hidden, least, out=hidden)
        scores: Array = (second @ self.weights["out.weight"][0]).reshape(shape)
        return scores

    def pair_scores(self, users: Array, items: Array) -> Array:
        """Return the score of each user `[P, w]` with the item of its row `[P, w]`, `[P]`."""
        factors = items.shape[1] - self.weights["wide.weight"].shape[1]
        scores: Array = np.einsum("pf,pf->p", users[:, :factors], items[:, :factors])
        for first in range(0, len(users), ROWS):
            rows = slice(first, first + ROWS)
            sums = users[rows, None, factors:] + items[rows, None, factors:]
            scores[rows] += self._deep(sums)[:, 0]
        return scores

    def _deep(self, sums: Array) -> Array:
        """Return the score of first-layer sums `[b, m, w - F]`, which are written over."""
        w = self.weights
        np.maximum(sums, 0, out=sums)
        hidden = sums.reshape(-1, sums.shape[2]) @ w["wide.weight"].T
        hidden += w["wide.bias"]
        np.maximum(hidden, 0, out=hidden)
        scores: Array = (hidden @ w["out.weight"][0]).reshape(sums.shape[:2])
        return scores


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _on_all_cores(work: Callable[[range], None], starts: range) -> None:
    """Call `work` with parts of `starts`, one for each thread that BLAS has.

    BLAS's own threads wait for each other after every product, and leave the work between products
    to one of them.
    """
    threads = max((library["num_threads"] for library in _blas().info()), default=1)
    if min(threads, len(starts)) < 2:
        work(starts)
        return
    # The number of threads is restored; two callers at once would restore each other's limit.
    with ALONE, _blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [starts[first::threads] for first in range(threads)]))


@dataclass(frozen=True)
class PairIndex:
    """Finds the items of the catalogue with the greatest scores by trying all of them.

    Attributes:
        vectors: of the items, float32 `[I, w]`.
        catalogue: which of them may be found, bool `[I]`.
        head: layers that score a pair.
        report: `used`, always `exhaustive`, `count` and `width`.
    """

    vectors: Array
    catalogue: Array
    head: PairHead
    report: Mapping[str, Any]

    @property
    def tunable(self) -> bool:
        """Whether there are settings to choose: never, no graph can be built of such scores."""
        return False

    @classmethod
    def build(cls, vectors: Array, catalogue: Array, head: PairHead) -> "PairIndex":
        """Return an index over item vectors `[I, w]`; nothing has to be built."""
        count, width = int(catalogue.sum()), vectors.shape[1]
        report = {"used": EXHAUSTIVE, "count": count, "width": width}
        return cls(np.ascontiguousarray(vectors, np.float32), catalogue, head, report)

    def search(self, vectors: Array, k: int, exclude: Ragged | None = None) -> tuple[Array, Array]:
        """Return the `k` best items of every query; see `train.index.base.Index`.

        Raises:
            ValueError: `k` is below 1 or the vectors have another width.
        """
        check_search(self.vectors.shape[1], vectors, k)
        exclude = Ragged.empty(len(vectors)) if exclude is None else exclude
        starts = range(0, max(1, len(vectors)), BLOCK)
        blocks = [self._block(vectors[s : s + BLOCK], k, exclude, s) for s in starts]
        return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])

    def within(self, items: Array) -> Index:
        """Return the search over some items of the catalogue, ascending `[m]`."""
        catalogue = np.ones(len(items), dtype=bool)
        return Subset(self, items, PairIndex.build(self.vectors[items], catalogue, self.head))

    def _block(self, vectors: Array, k: int, exclude: Ragged, start: int) -> tuple[Array, Array]:
        """Answer the queries `[B, w]` whose exclusions begin at row `start`."""
        scores = self.head.scores(vectors, self.vectors)
        known = exclude.take(np.arange(start, start + len(vectors)))
        scores[known.rows, known.values] = -np.inf
        scores[:, ~self.catalogue] = -np.inf
        items, best = top_k(scores, k)
        missing = (0, 0), (0, k - items.shape[1])
        items = np.pad(np.where(best > -np.inf, items, -1), missing, constant_values=-1)
        return items.astype(np.int32), np.pad(best, missing, constant_values=-np.inf)

    def pair_scores(self, users: Array, items: Array) -> Array:
        """Return the score of each user `[P, w]` with the item of its row `[P, w]`, `[P]`."""
        return self.head.pair_scores(users, items)

    def variants(self, k: int) -> list[tuple[int, "PairIndex"]]:
        """Return none: a search tries every item."""
        return []

    def save(self, folder: Path) -> None:
        """Write the head's weights; vectors, catalogue and report are stored beside."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(value) for name, value in self.head.weights.items()}
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path, vectors: Array, catalogue: Array) -> "PairIndex":
        """Read what `save` wrote, over the same vectors and catalogue.

        Raises:
            ValueError: the file is missing or no safetensors file, or of other vectors.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = folder / FILE
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        if weights["wide.weight"].shape[1] > vectors.shape[1]:
            raise ValueError(
                f"{path} reads vectors of {weights['wide.weight'].shape[1]} numbers or "
                f"more, those of this bundle have {vectors.shape[1]}"
            )
        return cls.build(vectors, catalogue, PairHead(weights))

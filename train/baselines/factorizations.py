"""Factorizations of the interaction matrix: baselines with a vector for every user and item.

Shapes: U users, I items, B users of a request, h history length, m items looked up, d width.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from train.baselines.base import Collaborative, Scorer, weighted_matrix, with_rows
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.linear_score import above_noise
from train.data.snapshot import TowerInputs

FOLDED = 256  # users folded in at a time where each has a matrix of its own


class Factorization(Collaborative):
    """Scores are inner products of a vector of the user and one of the item.

    So it is a tower as well (`train.towers.factorized`), and says how the items of a user whom it
    has not seen become a vector.
    """

    @property
    def confidence(self) -> float:
        """Confidence in an interaction, where one in its absence is 1."""
        return 1.0

    def factorize(self, matrix: Any, seed: int) -> tuple[Array, Array]:
        """Return the vectors of users and items, floats `[U, d]` and `[I, d]`.

        Args:
            matrix: interactions, CSR float32 `[U, I]`; 0/1, if not said otherwise.
            seed: of every draw.
        """
        raise NotImplementedError

    def learn(self, matrix: Any, seed: int, asked: Any = None) -> Scorer:
        """Return a scorer by inner products of the factors."""
        users, items = self.factorize(matrix, seed)
        if asked is not None:
            users = np.concatenate([users, self.folded(items, asked)])
        return lambda rows: np.asarray(users[rows] @ items.T)

    def folded(self, items: Array, asked: Any) -> Array:
        """Return the vectors of users who are folded in, float32 `[A, d]`.

        Args:
            items: vectors, `[I, d]`.
            asked: what each interacted with, 0/1, CSR `[A, I]`.
        """
        rows = Ragged(asked.indices.astype(np.int32), asked.indptr.astype(np.int64))
        vectors, folding = torch.tensor(items, dtype=torch.float32), self.folding(items)
        parts = [np.zeros((0, items.shape[1]), np.float32)]
        for start in range(0, len(rows), FOLDED):
            some = rows.take(np.arange(start, min(start + FOLDED, len(rows))))
            place = torch.tensor(
                some.last(max(int(some.lengths.max(initial=0)), 1)).astype("int64")
            )
            found = self.fold_in(vectors, place.clamp(min=0), place >= 0, folding)
            parts.append(found.numpy())
        return np.concatenate(parts)

    def vectors(self, known: Interactions, inputs: TowerInputs, seed: int) -> tuple[Array, Array]:
        """Return the vectors of all users and items, 0 for the cold ones, float32.

        Raises:
            ValueError: fewer warm items than it needs.
        """
        self.check(int(inputs.warm_items.sum()), inputs.item_features)
        factors = self.factorize(self.matrix(known, inputs), seed)
        warm = inputs.warm_users, inputs.warm_items
        users, items = (np.zeros((len(mask), factors[0].shape[1]), np.float32) for mask in warm)
        users[warm[0]], items[warm[1]] = factors
        return users, items

    def folding(self, items: Array) -> Tensor:
        """Return a matrix of all items' vectors `[I, d]` that `fold_in` multiplies by, `[d, d]`."""
        return torch.eye(items.shape[1])

    def fold_in(self, vectors: Tensor, place: Tensor, present: Tensor, folding: Tensor) -> Tensor:
        """Return the vectors of users by their histories, `[B, d]`; here the sum of the items'.

        Args:
            vectors: of items, `[m, d]`.
            place: of the users' items in `vectors`, `[B, h]`.
            present: which of these count, bool `[B, h]`: no item twice.
            folding: of the method of that name.
        """
        return sum_of(vectors, place, present)


class SVD(Factorization):
    """Truncated SVD of the interaction matrix (PureSVD, Cremonesi et al. 2010).

    A user is projected, so the vector of a new one is the sum of the vectors of the history, as it
    is for the others. With a regularization it is the ridge regression of the matrix on itself in
    `rank` dimensions, which is EASE but for the diagonal: of a singular value s the share
    `s^2 / (s^2 + regularization)` counts, instead of all or nothing (Jin et al., KDD 2021).

    Attributes:
        rank: singular values kept; None picks 8 to 256 on the validation window, and is 8 where
            that has no users, or as many as there are items.
        regularization: added to their squares; None picks 0 to 10,000 there, and is 0.
        weighted: an interaction counts by its weight (a rating, say) over the mean of all weights,
            and those of one pair are added; else a pair counts 1. A user who is folded in is
            described by items without weights.
    """

    name: Literal["svd"] = "svd"
    rank: int | None = Field(default=None, ge=1)
    regularization: float | None = Field(default=None, ge=0)
    weighted: bool = False
    grid = ({"rank": (8, 16, 32, 64, 128, 256), "regularization": (0.0, 100.0, 1000.0, 10000.0)},)
    fallback: ClassVar[Mapping[str, Any]] = {"rank": 8, "regularization": 0.0}

    def check(self, items: int, features: Features) -> None:
        """Check that there are as many items as singular values."""
        if self.rank is not None and items < self.rank:
            raise ValueError(
                f"svd of rank {self.rank} needs as many warm items, found {items}; lower its rank"
            )

    def matrix(self, known: Interactions, inputs: TowerInputs) -> Any:
        """Return the interaction matrix, 0/1 or weighted, CSR float32 `[U, I]`."""
        if not self.weighted:
            return super().matrix(known, inputs)
        return weighted_matrix(known, known.relative_weight(), inputs)

    def factorize(self, matrix: Any, seed: int) -> tuple[Array, Array]:
        """Factorize by random projections, `[U, rank]` and `[I, rank]`."""
        values, components = self._decompose(matrix, self._rank(matrix), seed)
        items = self._items(values, components, matrix.shape)
        return matrix @ items, items

    def learn_each(
        self, choices: Sequence[Self], matrix: Any, seed: int, asked: Any = None
    ) -> Iterator[Scorer]:
        """Yield a scorer of each choice by the largest decomposition of all, cut to its rank."""
        ranks = [choice._rank(matrix) for choice in choices]
        values, components = self._decompose(matrix, max(ranks), seed)
        every = with_rows(matrix, asked)
        for choice, rank in zip(choices, ranks, strict=True):
            items = choice._items(values[:rank], components[:rank], matrix.shape)
            yield lambda rows, of=items: np.asarray((every[rows] @ of) @ of.T)  # type: ignore[misc]

    def _rank(self, matrix: Any) -> int:
        rank = self.settled().rank
        assert rank is not None
        return min(rank, int(matrix.shape[1]))

    def _decompose(self, matrix: Any, rank: int, seed: int) -> tuple[Array, Array]:
        """Return the largest singular values `[rank]` and their right vectors `[rank, I]`."""
        from sklearn.decomposition import TruncatedSVD

        svd = TruncatedSVD(rank, random_state=seed).fit(matrix)
        return svd.singular_values_, svd.components_

    def _items(self, values: Array, components: Array, shape: tuple[int, int]) -> Array:
        squares = above_noise(values, shape) ** 2
        penalty = self.settled().regularization
        shares = squares / np.maximum(squares + penalty, np.finfo(np.float32).tiny)
        return np.asarray(components.T * np.sqrt(shares))


class ALS(Factorization):
    """Alternating least squares on implicit feedback (Hu, Koren, Volinsky 2008).

    A new user is folded in: the least squares of a user are solved with the final vectors of the
    items. The others have theirs from the last iteration, which solved for the users first, in a
    few steps of conjugate gradients, and for the items after that. With an alpha
    other than 1 the fold-in solves equations of each user's own, for which ONNX has no operator.

    Attributes:
        factors: width of the vectors; None picks 16 to 256 on the validation window, with the alpha
            and regularization picked before at 32, and is 32 where that has no users.
        regularization: of the vectors' squares; None picks 10 to 100 there, and is 30.
        alpha: confidence in an interaction, where one in its absence is 1; None picks 1, 10 or 40
            there, and is 10.
        iterations: of both sides.
    """

    name: Literal["als"] = "als"
    factors: int | None = Field(default=None, ge=1)
    regularization: float | None = Field(default=None, ge=0)
    alpha: float | None = Field(default=None, gt=0)
    iterations: int = Field(default=15, ge=1)
    grid = (
        {"alpha": (1.0, 10.0, 40.0), "regularization": (100.0, 30.0, 10.0)},
        {"factors": (16, 32, 64, 128, 256)},
    )
    fallback: ClassVar[Mapping[str, Any]] = {"factors": 32, "regularization": 30.0, "alpha": 10.0}
    picked_on = 1_000_000

    def factorize(self, matrix: Any, seed: int) -> tuple[Array, Array]:
        """Factorize, `[U, factors]` and `[I, factors]`."""
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        # Its own threads and those of BLAS wait for one another: 12 to 17 times the seconds where
        # other programs run. It warns of that, and sees no limit that is set in the process.
        with warnings.catch_warnings(), threadpool_limits(1, "blas"):
            warnings.simplefilter("ignore", RuntimeWarning)
            model = AlternatingLeastSquares(
                **self.settled().model_dump(include={*ALS.model_fields} - {"name"}),
                random_state=seed,
            )
            model.fit(matrix, show_progress=False)
        return model.user_factors, model.item_factors

    def for_share(self, share: float) -> Self:
        """Return it with the regularization times the root of the share of users.

        With a share s of the users the vectors of the items have that of the errors, and their own
        regularization would have to be s times as large, that of the users the same. Only the
        product of both decides, for what one side's vectors are multiplied by the other's are
        divided by: so both are sqrt(s) times as large.
        """
        penalty = self.settled().regularization
        assert penalty is not None
        return self.model_copy(update={"regularization": penalty * share**0.5})

    @property
    def confidence(self) -> float:
        """Its alpha, or the fallback of that."""
        alpha = self.settled().alpha
        assert alpha is not None
        return alpha

    def folding(self, items: Array) -> Tensor:
        """Return `(Y^T Y + regularization I)^-1` of the items' vectors Y."""
        exact = items.astype(np.float64)
        penalty = self.settled().regularization
        assert penalty is not None
        squares = exact.T @ exact + penalty * np.eye(items.shape[1])
        return torch.tensor(np.linalg.pinv(squares, hermitian=True), dtype=torch.float32)

    def fold_in(self, vectors: Tensor, place: Tensor, present: Tensor, folding: Tensor) -> Tensor:
        """Solve `(Y^T Y + regularization I + (alpha - 1) V^T V) x = alpha V^T 1` for each user.

        V are the vectors of the history. With an alpha of 1 that is a product with `folding`.
        """
        first = self.confidence * sum_of(vectors, place, present) @ folding
        if self.confidence == 1:
            return first
        blocks = zip(*(part.split(FOLDED) for part in (first, place, present)), strict=True)
        return torch.cat([self._solved(vectors, folding, *block) for block in blocks])

    def _solved(
        self, vectors: Tensor, folding: Tensor, first: Tensor, place: Tensor, present: Tensor
    ) -> Tensor:
        own = vectors[place] * present[..., None]
        one = torch.eye(len(folding), device=folding.device)
        left = one + (self.confidence - 1) * folding @ (own.mT @ own)
        solved: Tensor = torch.linalg.solve(left, first)
        return solved


def sum_of(vectors: Tensor, place: Tensor, present: Tensor) -> Tensor:
    """Return the sum of the rows of `vectors` `[m, d]` at `place` `[B, h]` where `present`."""
    weights = present.to(vectors.dtype)
    return F.embedding_bag(place, vectors, per_sample_weights=weights, mode="sum")

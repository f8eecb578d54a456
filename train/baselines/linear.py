"""Linear autoencoders: each item of a history is predicted from the others."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse
from pydantic import Field

from train.baselines.base import Collaborative, Scorer, with_rows
from train.baselines.knn import dense_scores
from train.baselines.sparse_ease import NEIGHBOURS, sparse_weights
from train.core.features import Features
from train.core.ragged import Array

logger = logging.getLogger(__name__)
LINEAR_ITEMS = 20_000  # a float64 matrix of all pairs has 3.2 GB
DENSE_ITEMS = 6_000  # items that EASE has weights between all of
NOISE = 2.0**-20  # of the largest eigenvalue: 8 float32 roundings
BLOCK = 2**24  # floats of dense rows in memory at once
MULTIPLIED = 50  # times that a product of dense matrices is faster, for each multiplication


class EASE(Collaborative):
    """A linear autoencoder without self-similarity, in closed form (Steck 2019).

    Above 6,000 items, whose pairs are a dense matrix that takes seconds for each penalty, an item
    is predicted from the 50 most similar ones instead of all (`train.baselines.sparse_ease`).

    Attributes:
        regularization: added to the diagonal of the items' co-occurrences; None picks 10 to 100,000
            on the validation window, and is 100 where that has no users.
    """

    name: Literal["ease"] = "ease"
    regularization: float | None = Field(default=None, gt=0)
    grid = (
        {
            "regularization": (
                100_000.0,
                30_000.0,
                10_000.0,
                3000.0,
                1000.0,
                300.0,
                100.0,
                30.0,
                10.0,
            )
        },
    )
    fallback: ClassVar[Mapping[str, Any]] = {"regularization": 100.0}

    def learn(self, matrix: Any, seed: int, asked: Any = None) -> Scorer:
        """Solve for the weights between items, `[I, I]`."""
        return _scorer(with_rows(matrix, asked), self.weights(matrix))

    def learn_each(
        self, choices: Sequence[Self], matrix: Any, seed: int, asked: Any = None
    ) -> Iterator[Scorer]:
        """Yield a scorer of each choice; the co-occurrences are counted once."""
        rows, penalties = with_rows(matrix, asked), [choice._penalty for choice in choices]
        return (_scorer(rows, weights) for weights in _weights(matrix, penalties))

    def weights(self, matrix: Any) -> Any:
        """Return `B = I - P / diag(P)`, `P = (X^T X + regularization I)^-1`, float32 `[I, I]`.

        It is dense up to 6,000 items, and CSR above.
        """
        return next(_weights(matrix, [self._penalty]))

    @property
    def _penalty(self) -> float:
        penalty = self.settled().regularization
        assert penalty is not None
        return penalty


def _scorer(matrix: Any, weights: Any) -> Scorer:
    if scipy.sparse.issparse(weights):
        return lambda users: dense_scores(matrix[users] @ weights)
    return lambda users: np.asarray(matrix[users] @ weights)


def _weights(matrix: Any, penalties: Sequence[float]) -> Iterator[Any]:
    """Yield the weights between items for each penalty."""
    if matrix.shape[1] > DENSE_ITEMS:
        logger.info(
            "ease: %s items are more than the %s whose pairs all have a weight: each is predicted "
            "from the %d most similar ones",
            *(f"{matrix.shape[1]:,}", f"{DENSE_ITEMS:,}", NEIGHBOURS),
        )
        yield from sparse_weights(matrix, penalties)
        return
    pairs = _co_occurrences(matrix)
    for penalty in penalties:
        weights = _inverse(pairs, penalty)
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0.0)
        yield weights


def _co_occurrences(matrix: Any) -> Array:
    """Return `X^T X`, dense float32 `[I, I]`: whole numbers, exact up to 2^24."""
    users, items = matrix.shape
    products = float((np.diff(matrix.indptr).astype(np.float64) ** 2).sum())
    if products * MULTIPLIED < float(users) * items**2:
        return np.asarray((matrix.T @ matrix).toarray(), np.float32)
    pairs = np.zeros((items, items), np.float32)
    step = max(1, BLOCK // max(items, 1))
    for start in range(0, users, step):
        block = matrix[start : start + step].toarray()
        pairs += block.T @ block
    return pairs


def _inverse(pairs: Array, penalty: float) -> Array:
    """Return the inverse of `pairs + penalty I`, symmetric, float32 `[n, n]`.

    It is by the Cholesky factorization: in float32, or by LU in float64 where the penalty is lost
    in the rounding of the pairs.
    """
    from scipy.linalg.lapack import spotrf, spotri

    failed = 1
    # No eigenvalue of a matrix without negative entries is above its largest sum of a row.
    if penalty > NOISE * pairs.sum(axis=1).max(initial=0):
        added = pairs.copy()
        added[np.diag_indices_from(added)] += np.float32(penalty)
        # A symmetric matrix is its own transpose, which LAPACK takes as it is.
        inverse, failed = spotrf(added.T, lower=1, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = spotri(inverse, lower=1, overwrite_c=1)
    if failed:
        exact = pairs.astype(np.float64)
        exact[np.diag_indices_from(exact)] += penalty
        return np.asarray(np.linalg.inv(exact), np.float32)
    lower = np.tril(inverse)
    return np.ascontiguousarray(lower + np.tril(inverse, -1).T)


class SLIM(Collaborative):
    """A sparse linear autoencoder without negative weights (Ning, Karypis 2011).

    Each column of `W` minimizes `|x - X w|^2 / 2U + alpha (l1_ratio |w|_1 + (1 - l1_ratio) |w|^2 /
    2)` with `w >= 0` and nothing from the item to itself: the notation of scikit-learn's
    `ElasticNet`, of which this is one for each item. All columns are solved at once, by accelerated
    projected gradients (FISTA; Beck, Teboulle 2009) that start anew where they overshoot
    (O'Donoghue, Candes 2015). Its settings are not picked on the validation window: each choice
    takes minutes for some thousand items.

    Attributes:
        alpha: of both penalties.
        l1_ratio: share of the one that makes weights 0.
        tolerance: of the largest change of a weight in the last step.
        steps: at most so many.
    """

    name: Literal["slim"] = "slim"
    alpha: float = Field(default=0.47, gt=0)
    l1_ratio: float = Field(default=0.14, ge=0, lt=1)
    tolerance: float = Field(default=1e-6, gt=0)
    steps: int = Field(default=2000, ge=1)

    def check(self, items: int, features: Features) -> None:
        """Check that a dense matrix of all pairs of items fits into memory."""
        if items > LINEAR_ITEMS:
            raise ValueError(
                f"{self.name} solves for a dense matrix of items x items, at most "
                f"{LINEAR_ITEMS:,}; found {items:,} warm items; take {self.name} out of "
                "evaluation.baselines"
            )

    def learn(self, matrix: Any, seed: int, asked: Any = None) -> Scorer:
        """Solve for the weights between items, `[I, I]` sparse."""
        weights, rows = self.weights(matrix), with_rows(matrix, asked)
        return lambda users: np.asarray((rows[users] @ weights).toarray())

    def weights(self, matrix: Any) -> Any:
        """Return `W`, CSR float64 `[I, I]`; the interaction matrix `X` is scored as `X W`."""
        pairs = ((matrix.T @ matrix) / matrix.shape[0]).tocsr().astype(np.float64)
        of_others = pairs - scipy.sparse.diags_array(pairs.diagonal())
        # X^T X has no negative entry, nor has W: a pair below the L1 penalty keeps the weight 0.
        most = of_others.max(axis=0).toarray().ravel()
        kept = np.flatnonzero(most > self.alpha * self.l1_ratio)
        some = scipy.sparse.coo_array(self._solve(pairs[kept][:, kept].toarray()))
        index = kept[some.row], kept[some.col]
        return scipy.sparse.csr_array((some.data, index), shape=pairs.shape)

    def _solve(self, pairs: Array) -> Array:
        """Return the weights between items that have these co-occurrences, `X^T X / U`."""
        hessian = pairs + self.alpha * (1 - self.l1_ratio) * np.eye(len(pairs))
        # Entries are not negative, so that the sums of rows on a diagonal are no less curved.
        curvature = hessian.sum(axis=1, keepdims=True)
        goal = pairs - self.alpha * self.l1_ratio
        weights = np.zeros_like(pairs)
        left, now, ahead, momentum = np.arange(len(pairs)), weights, weights, np.ones(len(pairs))
        for _ in range(self.steps):
            new = np.maximum(ahead - (hessian @ ahead - goal[:, left]) / curvature, 0)
            new[left, np.arange(len(left))] = 0
            step = new - now
            weights[:, left] = new
            following, ahead = _accelerated(new, step, curvature * (ahead - new), momentum)
            moving = np.abs(step).max(axis=0, initial=0) > self.tolerance
            left, now, ahead = left[moving], new[:, moving], ahead[:, moving]
            momentum = following[moving]
            if not len(left):
                break
        else:
            logger.warning("slim: %d items have not converged; raise its steps", len(left))
        return weights


def _accelerated(new: Array, step: Array, slope: Array, momentum: Array) -> tuple[Array, Array]:
    """Return each column's next momentum, and the point of its next gradient."""
    overshot = np.einsum("ij,ij->j", slope, step) > 0
    following = np.where(overshot, 1, (1 + np.sqrt(1 + 4 * momentum**2)) / 2)
    return following, new + (momentum - 1) / following * step

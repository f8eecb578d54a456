"""Linear autoencoders: each item of a history is predicted from the others."""

import logging
from typing import Any, Literal

import numpy as np
import scipy.sparse
from pydantic import Field

from train.baselines.base import Collaborative, Scorer
from train.core.ragged import Array
from train.data.encoders import Features

logger = logging.getLogger(__name__)
LINEAR_ITEMS = 20_000  # a float64 matrix of all pairs has 3.2 GB


class Linear(Collaborative):
    """A weight for every pair of items."""

    name: str

    def check(self, items: int, features: Features) -> None:
        """Check that a dense matrix of all pairs of items fits into memory."""
        if items > LINEAR_ITEMS:
            raise ValueError(
                f"{self.name} solves for a dense matrix of items x items, at most "
                f"{LINEAR_ITEMS:,}; found {items:,} warm items; take {self.name} out of "
                "evaluation.baselines"
            )


class EASE(Linear):
    """A linear autoencoder without self-similarity, in closed form (Steck 2019).

    Attributes:
        regularization: added to the diagonal of the items' co-occurrences.
    """

    name: Literal["ease"] = "ease"
    regularization: float = Field(default=108_727.0, gt=0)

    def learn(self, matrix: Any, seed: int) -> Scorer:
        """Solve for the weights between items, `[I, I]` dense."""
        weights = self.weights(matrix)
        return lambda users: np.asarray(matrix[users] @ weights)

    def weights(self, matrix: Any) -> Array:
        """Return `B = I - P / diag(P)`, `P = (X^T X + regularization I)^-1`, float64 `[I, I]`."""
        pairs = (matrix.T @ matrix).toarray().astype(np.float64)
        pairs[np.diag_indices_from(pairs)] += self.regularization
        weights: Array = np.linalg.inv(pairs)
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0.0)
        return weights


class SLIM(Linear):
    """A sparse linear autoencoder without negative weights (Ning, Karypis 2011).

    Each column of `W` minimizes `|x - X w|^2 / 2U + alpha (l1_ratio |w|_1 + (1 - l1_ratio) |w|^2 /
    2)` with `w >= 0` and nothing from the item to itself: the notation of scikit-learn's
    `ElasticNet`, of which this is one for each item. All columns are solved at once, by accelerated
    projected gradients (FISTA; Beck, Teboulle 2009) that start anew where they overshoot
    (O'Donoghue, Candes 2015).

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

    def learn(self, matrix: Any, seed: int) -> Scorer:
        """Solve for the weights between items, `[I, I]` sparse."""
        weights = self.weights(matrix)
        return lambda users: np.asarray((matrix[users] @ weights).toarray())

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
    """Return each column's next momentum, and where its next gradient is taken."""
    overshot = np.einsum("ij,ij->j", slope, step) > 0
    following = np.where(overshot, 1, (1 + np.sqrt(1 + 4 * momentum**2)) / 2)
    return following, new + (momentum - 1) / following * step

"""The linear score: what a user took, told from all else that they took, to describe candidates.

Shapes: U users, I items, B queries, r rank.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.core.settings import Settings

TINY = 1e-12


@dataclass(frozen=True)
class LinearModel:
    """A linear autoencoder: a user is the sum of what they took, encoded, and decoded scores items.

    Attributes:
        encode: what an item adds to a user, float32 `[I, r]`; r is 0 where there is no such model.
        decode: what a user is multiplied with, float32 `[I, r]`.
        beyond: what weights other than 1 add to a user, float32 `[U, r]`; `[U, 0]` for no weights.
    """

    encode: Array
    decode: Array
    beyond: Array

    @classmethod
    def none(cls) -> "LinearModel":
        """Return the absence of one."""
        return cls(*(np.zeros((0, 0), np.float32),) * 3)

    def __bool__(self) -> bool:
        return bool(self.encode.shape[1])

    def users(self, user: Array, history: Ragged) -> Array:
        """Return users as vectors, float32 `[B, r]`; an item of a history counts once.

        Args:
            user: int32 `[B]`, -1 for one who is unknown.
            history: B rows of items.
        """
        from scipy.sparse import csr_array

        ones = np.ones(len(history.values), np.float32)
        shape = len(history), len(self.encode)
        taken = csr_array((ones, history.values, history.offsets), shape=shape, copy=True)
        taken.sum_duplicates()
        taken.data[:] = 1
        found: Array = taken @ self.encode
        if self.beyond.shape[1]:
            found += np.where(user[:, None] >= 0, self.beyond[user], 0)
        return found


class LinearScore(Settings):
    """A ridge regression of what was taken on itself, in few dimensions (Jin et al., KDD 2021).

    With `X` what was taken and `D = diag(p^-discount)`, p the popularity of items over their mean,
    `X D = U S V^T` is cut off after `rank` singular values, and a user's scores are
    `x D V diag(s^2 / (s^2 + regularization s_1^2)) V^T D^-1`. The discount keeps popular items from
    taking up the few dimensions; at 0.5 it is that of GF-CF's items (Shen et al., CIKM 2021).

    Attributes:
        rank: singular values kept; 0 leaves the score out.
        regularization: over the square of the largest singular value, so that it means the same
            for few and for many users.
        discount: 0 for none.
        weighted: an interaction counts by its weight (a rating, say) over the mean of all weights,
            and those of one pair are added; else a pair counts 1. What comes with a request does.
    """

    rank: int = Field(default=0, ge=0)
    regularization: float = Field(default=0.3, ge=0)
    discount: float = Field(default=0.5, ge=0, le=1)
    weighted: bool = False

    def fit(self, known: Interactions, n_users: int, n_items: int) -> LinearModel:
        """Return the model of what was known, of `rank` even where there is less to tell."""
        if not self.rank:
            return LinearModel.none()
        weight = known.relative_weight() if self.weighted else np.ones(len(known))
        taken = known.summed(weight, n_users, n_items)
        if not self.weighted:
            taken.data[:] = 1
        scale = self._scale(np.asarray(taken.sum(axis=0), dtype=np.float64).ravel())
        scaled = taken.multiply(scale[None].astype(np.float32)).tocsr()
        vectors, shares = self._decomposed(scaled)
        encode = (vectors * shares * scale[:, None]).astype(np.float32)
        decode = (vectors / np.where(scale > 0, scale, 1)[:, None]).astype(np.float32)
        if not self.weighted:
            return LinearModel(encode, decode, np.zeros((n_users, 0), np.float32))
        taken.data -= 1
        return LinearModel(encode, decode, taken @ encode)

    def _scale(self, popularity: Array) -> Array:
        """Return D of items with these sums of weights `[I]`, 0 where nobody took one."""
        warm = popularity > 0
        mean = popularity[warm].mean() if warm.any() else 1
        return np.where(warm, (np.where(warm, popularity, 1) / mean) ** -self.discount, 0)

    def _decomposed(self, taken: Any) -> tuple[Array, Array]:
        """Return V `[I, rank]` and how far each singular value counts `[rank]`."""
        from sklearn.decomposition import TruncatedSVD

        vectors, shares = np.zeros((taken.shape[1], self.rank)), np.zeros(self.rank)
        possible = min(self.rank, *taken.shape)
        if possible and taken.shape[1] > 1 and taken.nnz:
            # Not by the run's seed: what candidates are described by is the same for all runs.
            svd = TruncatedSVD(possible, random_state=0).fit(taken)
            squares = told(svd.singular_values_, taken.shape) ** 2
            vectors[:, :possible] = svd.components_.T
            shares[:possible] = squares / (squares + self.regularization * squares[0] + TINY)
        return vectors, shares


NONE = LinearScore()


def told(values: Array, shape: tuple[int, int]) -> Array:
    """Return singular values, largest first, with 0 for those that are rounding noise.

    Where data has fewer dimensions than are asked for, float32 leaves some eps of the largest value
    in each of the others, and the vectors that belong to these are no more than noise either.

    Args:
        values: `[r]`.
        shape: of the matrix that was decomposed.
    """
    # The noise of sums over n rows grows as sqrt(n).
    noise = np.finfo(np.float32).eps * np.sqrt(max(shape)) * values.max(initial=0)
    found: Array = np.where(values > noise, values, 0)
    return found

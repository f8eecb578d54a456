"""The linear score: a low-rank linear autoencoder of the interaction matrix describes candidates.

Shapes: U users, I items, B requests, r rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from pydantic import Field

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.core.settings import Settings

TINY = 1e-12


@dataclass(frozen=True)
class LinearModel:
    """A linear autoencoder: the encoded items of a user are summed, and decoded into scores.

    Attributes:
        encode: vector that an item adds to a user's, float32 `[I, r]`; r is 0 for no model.
        decode: vector of an item whose product with a user's is the score, float32 `[I, r]`.
        residual: residual of weighted interactions: what weights other than 1 add to a user's
            vector, float32 `[U, r]`; `[U, 0]` where all weights are 1.
    """

    encode: Array
    decode: Array
    residual: Array

    @classmethod
    def none(cls) -> "LinearModel":
        """Return the absence of one."""
        return cls(*(np.zeros((0, 0), np.float32),) * 3)

    def __bool__(self) -> bool:
        return bool(self.encode.shape[1])

    def arrays(self) -> dict[str, Array]:
        """Return every array by its name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "LinearModel":
        """Rebuild from the result of `arrays`.

        Raises:
            ValueError: an array is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"a linear score needs the arrays {names}; missing: {missing}")
        return cls(**{name: arrays[name] for name in names})

    def users(self, user: Array, history: Ragged) -> Array:
        """Return the vectors of users, float32 `[B, r]`; an item of a history counts once.

        Args:
            user: int32 `[B]`, -1 for one who is unknown.
            history: B rows of items.
        """
        from scipy.sparse import csr_array

        ones = np.ones(len(history.values), np.float32)
        shape = len(history), len(self.encode)
        interactions = csr_array((ones, history.values, history.offsets), shape=shape, copy=True)
        interactions.sum_duplicates()
        interactions.data[:] = 1
        vectors: Array = interactions @ self.encode
        if self.residual.shape[1]:
            vectors += np.where(user[:, None] >= 0, self.residual[user], 0)
        return vectors


class LinearScore(Settings):
    """A low-rank ridge regression of the interaction matrix on itself (Jin et al., KDD 2021).

    With `X` the interaction matrix and `D = diag(p^-discount)`, p the popularity of items over
    their mean, `X D = U S V^T` is cut off after `rank` singular values, and a user's scores are
    `x D V diag(s^2 / (s^2 + regularization s_1^2)) V^T D^-1`. The discount keeps popular items from
    taking up the few dimensions; at 0.5 it is that of GF-CF's items (Shen et al., CIKM 2021).

    Attributes:
        rank: singular values kept; 0 leaves the score out.
        regularization: over the square of the largest singular value, so that it means the same
            for few and for many users.
        discount: 0 for none.
        weighted: an interaction counts by its weight (a rating, say) over the mean of all weights,
            and those of one pair are added; else a pair counts 1, as histories in requests do.
    """

    rank: int = Field(default=0, ge=0)
    regularization: float = Field(default=0.3, ge=0)
    discount: float = Field(default=0.5, ge=0, le=1)
    weighted: bool = False

    def fit(self, interactions: Interactions, n_users: int, n_items: int) -> LinearModel:
        """Return the model of these interactions, `rank` wide even where their rank is lower."""
        if not self.rank:
            return LinearModel.none()
        weight = interactions.relative_weight() if self.weighted else np.ones(len(interactions))
        matrix = interactions.summed(weight, n_users, n_items)
        if not self.weighted:
            matrix.data[:] = 1
        scale = self._scale(np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel())
        scaled = matrix.multiply(scale[None].astype(np.float32)).tocsr()
        vectors, shrinkage = self._decomposed(scaled)
        encode = (vectors * shrinkage * scale[:, None]).astype(np.float32)
        decode = (vectors / np.where(scale > 0, scale, 1)[:, None]).astype(np.float32)
        if not self.weighted:
            return LinearModel(encode, decode, np.zeros((n_users, 0), np.float32))
        matrix.data -= 1  # a history counts each pair once, by `encode`; this is the rest
        return LinearModel(encode, decode, matrix @ encode)

    def _scale(self, popularity: Array) -> Array:
        """Return the diagonal of D, `[I]`, of sums of weights `[I]`; 0 for items without one."""
        warm = popularity > 0
        mean = popularity[warm].mean() if warm.any() else 1
        return np.where(warm, (np.where(warm, popularity, 1) / mean) ** -self.discount, 0)

    def _decomposed(self, matrix: Any) -> tuple[Array, Array]:
        """Return V `[I, rank]` and the shrinkage of each singular value `[rank]`."""
        from sklearn.decomposition import TruncatedSVD

        vectors, shrinkage = np.zeros((matrix.shape[1], self.rank)), np.zeros(self.rank)
        possible = min(self.rank, *matrix.shape)
        if possible and matrix.shape[1] > 1 and matrix.nnz:
            # A fixed seed, not the run's: the features of candidates are the same for all runs.
            svd = TruncatedSVD(possible, random_state=0).fit(matrix)
            squares = above_noise(svd.singular_values_, matrix.shape) ** 2
            vectors[:, :possible] = svd.components_.T
            shrinkage[:possible] = squares / (squares + self.regularization * squares[0] + TINY)
        return vectors, shrinkage


NONE = LinearScore()


def above_noise(values: Array, shape: tuple[int, int]) -> Array:
    """Return singular values, largest first, with 0 for those that are rounding noise.

    Where the matrix has a lower rank than is asked for, float32 leaves some eps of the largest
    value in each of the others, whose singular vectors are noise, too.

    Args:
        values: `[r]`.
        shape: of the decomposed matrix.
    """
    # The noise of sums over n rows grows as sqrt(n).
    noise = np.finfo(np.float32).eps * np.sqrt(max(shape)) * values.max(initial=0)
    return np.asarray(np.where(values > noise, values, 0))

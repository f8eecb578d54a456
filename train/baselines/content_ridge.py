"""Ridge regression of interactions on item attributes: personal scores of cold items as well."""

from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse
from pydantic import Field

from train.baselines.base import (
    Baseline,
    Scorer,
    asked_matrix,
    interaction_matrix,
    of_known_users,
    with_rows,
)
from train.baselines.linear import LINEAR_ITEMS
from train.core.features import Features
from train.core.ragged import Array
from train.data.snapshot import Snapshot


class ContentRidge(Baseline):
    """Kernel ridge regression on attributes of items (Saunders, Gammerman, Vovk 1998).

    A user's scores are the smoothest function of the attributes that is near 1 at the items of the
    history and near 0 at the other warm ones: `x (K + regularization I)^-1 k`, with K the kernel
    between warm items and k that with any item, `exp(sharpness (similarity - 1))`. The less it is
    regularized, the higher a new item ranks above warm ones that the user has not interacted with.

    Attributes:
        regularization: added to the kernel's diagonal, which is 1.
        sharpness: how fast an item stops influencing the scores of items that differ from it.
        dense: the share of numbers, text and embeddings in the similarity, a cosine around their
            mean; that of categories, weighted by rarity, has the rest. An item table without one of
            both leaves all to the other.
    """

    name: Literal["content_ridge"] = "content_ridge"
    regularization: float = Field(default=0.1, gt=0)
    sharpness: float = Field(default=8.0, gt=0)
    dense: float = Field(default=0.7, ge=0, le=1)

    def check(self, items: int, features: Features) -> None:
        """Check that items have attributes, and that the kernel of all pairs fits into memory."""
        if not features.dense_names and not features.vocabulary:
            raise ValueError("content_ridge needs attributes of items; set data.item_columns")
        if len(features.dense) > LINEAR_ITEMS:
            raise ValueError(
                f"content_ridge compares all pairs of items, of at most {LINEAR_ITEMS:,}; found "
                f"{len(features.dense):,}; take content_ridge out of evaluation.baselines"
            )

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Solve for the weights between warm items and all items, float32 `[W, I]`.

        Raises:
            ValueError: items have no attributes, or there are too many of them.
        """
        inputs = known.inputs
        self.check(0, inputs.item_features)
        weights = self.weights(inputs.item_features, np.flatnonzero(inputs.warm_items))
        matrix = with_rows(interaction_matrix(known.interactions, inputs), asked_matrix(known))
        everything = np.arange(weights.shape[1])
        return of_known_users(lambda rows: np.asarray(matrix[rows] @ weights), known, everything)

    def weights(self, items: Features, warm: Array) -> Array:
        """Return `(K + regularization I)^-1 k` of the items at `warm` `[W]` and all, `[W, I]`."""
        kernel = self.kernel(items, warm)
        among = kernel[:, warm]
        among[np.diag_indices_from(among)] += self.regularization
        factor = scipy.linalg.cho_factor(among, overwrite_a=True, check_finite=False)
        solved = scipy.linalg.cho_solve(factor, kernel, overwrite_b=True, check_finite=False)
        return np.asarray(solved)

    def kernel(self, items: Features, warm: Array) -> Array:
        """Return the kernel between the items at `warm` `[W]` and all items, float32 `[W, I]`."""
        share = self.dense if items.vocabulary else 1.0
        share = share if items.dense_names else 0.0
        numbers = unit_numbers(items)
        similarity = share * (numbers[warm] @ numbers.T)
        if share < 1:
            categories = unit_categories(items)
            similarity += (1 - share) * (categories[warm] @ categories.T).toarray()
        return np.asarray(np.exp(self.sharpness * (similarity - 1)), np.float32)


def unit_numbers(items: Features) -> Array:
    """Return the dense attributes around their mean, with length 1, float32 `[I, A]`.

    An item that has the mean of every column has none: the rounding of float32 columns, which is
    all that is left of it, is no direction.
    """
    dense = items.dense.astype(np.float64)
    rows = dense - dense.mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    noise = np.finfo(np.float32).eps * np.linalg.norm(np.abs(dense).max(axis=0, initial=0))
    return np.where(lengths > noise, rows / np.maximum(lengths, 1e-9), 0).astype(np.float32)


def unit_categories(items: Features) -> scipy.sparse.csr_array:
    """Return the categories weighted by inverse document frequency, with length 1, `[I, V]`."""
    from sklearn.feature_extraction.text import TfidfTransformer

    codes, shape = items.categories, (len(items.categories), len(items.vocabulary))
    ones = np.ones(len(codes.values), np.float32)
    return scipy.sparse.csr_array(
        TfidfTransformer().fit_transform(
            scipy.sparse.csr_array((ones, codes.values, codes.offsets), shape=shape)
        )
    )

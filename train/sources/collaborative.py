"""Sources that are baselines: factorizations and weights between items."""

from typing import Literal

import numpy as np
from pydantic import Field

from train.baselines.base import Collaborative
from train.baselines.factorizations import ALS, SVD, Factorization
from train.baselines.knn import ItemKNN
from train.baselines.linear import EASE, SLIM
from train.data.snapshot import Snapshot
from train.sources.base import Source, SourceSettings
from train.sources.item_to_item import ItemToItemSource
from train.sources.vectors import VectorSource


class _CollaborativeSource(Collaborative, SourceSettings):
    """A baseline that learns from the interaction matrix, as a source."""

    name: str

    def lacks(self, known: Snapshot) -> str | None:
        """Return why it cannot be fitted to the warm items, or None."""
        try:
            self.check(int(known.inputs.warm_items.sum()), known.inputs.item_features)
        except ValueError as error:
            return str(error)
        return None


class _FactorizedSource(_CollaborativeSource, Factorization):
    """A factorization whose users are folded in."""

    name: str

    def source(self, known: Snapshot, seed: int) -> Source:
        """Factorize; cold items are never proposed."""
        _, items = self.vectors(known.interactions, known.inputs, seed)
        catalogue = known.catalogue & known.inputs.warm_items
        folding = self.folding(items).numpy()
        return VectorSource(items, catalogue, folding, np.array(self.confidence))


class ALSSource(_FactorizedSource, ALS):
    """Alternating least squares as a source; see the baseline `als`."""

    name: Literal["als"] = "als"


class SVDSource(_FactorizedSource, SVD):
    """Truncated SVD as a source; see the baseline `svd`."""

    name: Literal["svd"] = "svd"


class _ItemToItemSource(_CollaborativeSource):
    """Weights between items, the strongest of each item.

    Attributes:
        kept: weights kept of each item of a history.
    """

    name: str
    kept: int = Field(default=300, ge=1)

    def source(self, known: Snapshot, seed: int) -> Source:
        """Learn the weights and keep the strongest; cold items are never proposed."""
        items = np.flatnonzero(known.inputs.warm_items)
        self.check(len(items), known.inputs.item_features)
        weights = self.item_weights(self.matrix(known.interactions, known.inputs))
        return ItemToItemSource.strongest(weights, items, known.catalogue, self.kept)

    def item_weights(self, matrix: object) -> object:
        """Return the weights between items, `[I, I]`, of an interaction matrix `[U, I]`."""
        raise NotImplementedError


class EASESource(_ItemToItemSource, EASE):
    """EASE as a source; see the baseline `ease`."""

    name: Literal["ease"] = "ease"

    def item_weights(self, matrix: object) -> object:
        """Return the dense weights."""
        return self.weights(matrix)


class SLIMSource(_ItemToItemSource, SLIM):
    """SLIM as a source; see the baseline `slim`."""

    name: Literal["slim"] = "slim"

    def item_weights(self, matrix: object) -> object:
        """Return the sparse weights."""
        return self.weights(matrix)


class ItemKNNSource(_ItemToItemSource, ItemKNN):
    """ItemKNN as a source; see the baseline `itemknn`."""

    name: Literal["itemknn"] = "itemknn"

    def item_weights(self, matrix: object) -> object:
        """Return the similarities of the nearest items."""
        return self.similarity(matrix)

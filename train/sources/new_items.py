"""The source of new items, by content: nobody's interactions say yet whom they are for."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from train.baselines.content_ridge import unit_categories, unit_numbers
from train.core.features import Features
from train.core.ragged import Array
from train.data.snapshot import Snapshot
from train.data.statistics import DAY
from train.sources.base import Source, SourceSettings
from train.sources.vectors import VectorSource

# Columns of categories beyond these are projected: a vector of so many floats an item is stored.
WIDTH = 128


class NewItemsSource(SourceSettings):
    """New items that are the most like the history by their attributes.

    An item is new if its first interaction is of the last days, or if it has none and the catalogue
    is "all". Its score is the sum of its cosines to the items of the history: of numbers, text and
    embeddings around their mean, and of categories weighted by rarity (tf-idf).

    Attributes:
        days: age of the oldest new item.
        dense: the share of numbers, text and embeddings in the similarity; that of categories has
            the rest. An item table without one of both leaves all to the other.
    """

    name: Literal["new_items"] = "new_items"
    needs_times: ClassVar[bool] = True
    days: int = Field(default=30, ge=1)
    dense: float = Field(default=0.5, ge=0, le=1)

    def lacks(self, known: Snapshot) -> str | None:
        """Return that items have no attributes or no times, where that is so."""
        items = known.inputs.item_features
        if not items.dense_names and not items.vocabulary:
            return "items have no attributes, which data.item_columns names columns of"
        return super().lacks(known)

    def source(self, known: Snapshot, seed: int) -> Source:
        """Embed all items by their attributes; only new ones are proposed."""
        vectors = content_vectors(known.inputs.item_features, self.dense)
        new = known.statistics.item_first >= known.as_of - self.days * DAY
        folding = np.eye(vectors.shape[1], dtype=np.float32)
        return VectorSource(vectors, known.catalogue & new, folding, np.array(1.0))


def content_vectors(items: Features, dense: float) -> Array:
    """Return vectors whose inner products are similarities of items by attributes, `[I, A]`.

    Args:
        items: their attributes.
        dense: the share of numbers, text and embeddings.
    """
    share = (dense if items.vocabulary else 1.0) if items.dense_names else 0.0
    parts = [np.sqrt(share) * unit_numbers(items)] if share > 0 else []
    if share < 1 and items.vocabulary:
        parts.append(np.sqrt(1 - share) * _projected(unit_categories(items)))
    empty = np.zeros((len(items.dense), 0))
    return np.hstack([empty, *parts]).astype(np.float32)


def _projected(categories: Any) -> Array:
    """Return rows `[I, V]` dense, in at most `WIDTH` dimensions (truncated SVD)."""
    from sklearn.decomposition import TruncatedSVD

    if categories.shape[1] <= WIDTH:
        return np.asarray(categories.toarray())
    width = max(1, min(WIDTH, categories.shape[0] - 1))
    return np.asarray(TruncatedSVD(width, random_state=0).fit_transform(categories))

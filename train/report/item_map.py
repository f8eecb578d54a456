"""A map of the items: t-SNE of their vectors, colored by category."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from train.core.features import Features
from train.core.ragged import Array

ITEMS = 2000
# Values of a column that have a color of their own.
VALUES = 8
# A column of more values is taken only where its frequent ones are those of half of the items.
MOST_VALUES = 50
FEWEST_ITEMS = 20


@dataclass(frozen=True)
class ItemMap:
    """Coordinates and categories of items.

    Attributes:
        place: coordinates, float32 `[M, 2]`.
        items: indices of the items, most popular first, int `[M]`.
        column: the category column; None where the items have none whose values many share.
        names: the most frequent values, most frequent first, and `other` last.
        value: position of each item's value in `names`, int `[M]`.
    """

    place: Array
    items: Array
    column: str | None
    names: list[str]
    value: Array


def item_map(
    vectors: Array, features: Features, count: Array, seed: int = 0, directions: bool = True
) -> ItemMap | None:
    """Map the most popular items by t-SNE (van der Maaten and Hinton, 2008) of their vectors.

    Args:
        vectors: float32 `[I, d]`.
        features: of the I items.
        count: interactions of each item, `[I]`; at most 2,000 items that have some are mapped.
        seed: of the embedding.
        directions: normalize the vectors: lengths reflect popularity rather than taste.

    Returns:
        None where fewer than 20 items have interactions.
    """
    order = np.argsort(-count, kind="stable")
    items = order[count[order] > 0][:ITEMS]
    if len(items) < FEWEST_ITEMS:
        return None
    column, names, value = _categories(features, items)
    chosen = vectors[items]
    if directions:
        chosen = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
    return ItemMap(_places(chosen, seed), items, column, names, value)


def _places(vectors: Array, seed: int) -> Array:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, max_iter=500, random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit_transform(vectors), dtype=np.float32)


def _categories(features: Features, items: Array) -> tuple[str | None, list[str], Array]:
    """Return a category column, its frequent values, and the position of each item's value.

    That is the first column of few values; or else the first of more whose frequent values are
    those of half of the items, as of departments of a shop, but not of ids.
    """
    columns = [name.split("=", 1)[0] for name in features.vocabulary]
    values = Counter(columns)
    several = [column for column in values if values[column] > 1]
    for column in sorted(several, key=lambda column: values[column] > MOST_VALUES):
        names, value = _values(features, items, np.array([name == column for name in columns]))
        if values[column] <= MOST_VALUES or (value < len(names)).mean() >= 0.5:
            return column, [*names, "other"], value
    return None, ["other"], np.zeros(len(items), dtype=np.int64)


def _values(features: Features, items: Array, inside: Array) -> tuple[list[str], Array]:
    """Return a column's frequent values, and the position of each item's value in them.

    Items without a frequent value have their number as position. An item with several has the
    rarest of them, the most specific.
    """
    categories = features.categories.take(items)
    in_column = inside[categories.values]
    rows, codes = categories.rows[in_column], categories.values[in_column]
    frequency = np.bincount(codes, minlength=len(inside))
    frequent = np.argsort(-frequency, kind="stable")[:VALUES]
    frequent = frequent[frequency[frequent] > 0]
    position = np.full(len(inside), -1)
    position[frequent] = np.arange(len(frequent))
    value = np.full(len(items), -1)
    np.maximum.at(value, rows, position[codes])
    names = [features.vocabulary[code].split("=", 1)[1] for code in frequent]
    return names, np.where(value < 0, len(names), value)

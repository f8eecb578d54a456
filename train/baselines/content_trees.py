"""Gradient boosted trees over item attributes: no score depends on the user."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from cluster.cpus import available_cpus
from train.baselines.base import Baseline, Scorer, same_for_all
from train.core.features import Features
from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.snapshot import Snapshot

MAX_FLAGS = 100


class CatBoostContent(Baseline):
    """Probability that an item is liked, from its attributes (CatBoost; Prokhorenkova et al. 2018).

    The attributes are as the towers have them: text is TF-IDF and a truncated SVD. They are of
    items alone, so an item is one row, with the share of its interactions that count as liked as
    the label and their number as the weight: the log loss is that of a row for each interaction.
    One pass over the catalogue ranks it for everybody.

    Attributes:
        positive: the least weight (a rating, say) of an interaction that counts as liked. Where it
            is not set all count. Where all count, as many random pairs are drawn as negatives.
        iterations: trees.
        learning_rate: of the trees.
        depth: of the trees.
        l2: of the leaves' values.
    """

    name: Literal["catboost_content"] = "catboost_content"
    positive: float | None = None
    iterations: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    depth: int = Field(default=8, ge=1, le=16)
    l2: float = Field(default=5.0, ge=0)

    def check(self, items: int, features: Features) -> None:
        """Check that items have attributes."""
        if not features.dense_names and not features.vocabulary:
            raise ValueError("catboost_content needs attributes of items; set data.item_columns")

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Score the catalogue once.

        Raises:
            ValueError: items have no attributes, or there are no positives, or no negatives.
        """
        self.check(0, known.inputs.item_features)
        features = columns(known.inputs.item_features)
        model = self.model(features, self._counts(known, seed), seed)
        return same_for_all(model.predict(features))

    def model(self, features: Any, counts: Array, seed: int) -> Any:
        """Return trees fitted to `[I]` items by their counts of likes and dislikes, `[2, I]`."""
        from catboost import CatBoost, Pool

        # A row for each label would leak it: statistics of categories leave a row's own label out,
        # so that they differ by it.
        total = counts.sum(axis=0)
        item = np.flatnonzero(total)
        share = counts[0, item] / total[item]
        model = CatBoost(
            {
                "loss_function": "CrossEntropy",
                "iterations": self.iterations,
                "learning_rate": self.learning_rate,
                "depth": self.depth,
                "l2_leaf_reg": self.l2,
                "bootstrap_type": "Bayesian",
                "random_seed": seed,
                "thread_count": available_cpus(),
                "allow_writing_files": False,
                "verbose": False,
            }
        )
        return model.fit(Pool(_rows(features, item), share, weight=total[item]))

    def _counts(self, known: Snapshot, seed: int) -> Array:
        """Return the number of likes and of dislikes of each item, int `[2, I]`."""
        past, size = known.interactions, len(known.inputs.warm_items)
        least = -np.inf if self.positive is None else self.positive
        liked = past.weight >= least
        if not liked.any():
            raise ValueError(
                f"{self.name}: no interaction weighs {least:g} or more, they weigh up to "
                f"{past.weight.max():g}; lower its positive"
            )
        disliked = past.item[~liked]
        if liked.all():
            disliked = unseen(past, known.inputs.warm_items, seed)
        counts = np.array([np.bincount(i, minlength=size) for i in (past.item[liked], disliked)])
        if not counts[1].any():
            raise ValueError(f"{self.name}: every user has every item, so that none is disliked")
        return counts


def unseen(past: Interactions, warm: Array, seed: int) -> Array:
    """Draw a warm item as a negative of each interaction, without those in the user's history."""
    items = np.flatnonzero(warm)
    drawn = np.random.default_rng(seed).choice(items, len(past))
    user = past.user.astype(np.int64) * len(warm)
    return np.asarray(drawn[~np.isin(user + drawn, user + past.item)])


def columns(items: Features) -> Any:
    """Return the attributes of items as columns of CatBoost.

    A column of one category an item is categorical; of one of several, the most frequent ones are
    a flag each.
    """
    from catboost import FeaturesData

    flags, single = [np.asarray(items.dense, dtype=np.float32)], []
    codes = items.categories
    of_column = np.array([name.partition("=")[0] for name in items.vocabulary])
    for column in dict.fromkeys(of_column.tolist()):
        chosen = of_column[codes.values] == column
        row, code = codes.rows[chosen], codes.values[chosen]
        if len(np.unique(row)) == len(row):
            single.append(_single(row, code, len(codes)))
        else:
            flags.append(_flags(row, code, len(codes)))
    return FeaturesData(
        num_feature_data=np.hstack(flags),
        cat_feature_data=np.array(single, dtype=object).T if single else None,
    )


def _rows(features: Any, index: Array) -> Any:
    from catboost import FeaturesData

    categories = features.cat_feature_data
    return FeaturesData(
        num_feature_data=features.num_feature_data[index],
        cat_feature_data=None if categories is None else categories[index],
    )


def _single(row: Array, code: Array, count: int) -> Array:
    """Return each row's code as bytes, -1 for none, `[count]`."""
    column = np.full(count, -1)
    column[row] = code
    return column.astype("S").astype(object)


def _flags(row: Array, code: Array, count: int) -> Array:
    """Return 1 where a row has one of the most frequent codes, float32 `[count, <= MAX_FLAGS]`."""
    codes, times = np.unique(code, return_counts=True)
    kept = np.sort(codes[np.argsort(-times, kind="stable")[:MAX_FLAGS]])
    place = np.searchsorted(kept, code).clip(max=len(kept) - 1)
    inside = kept[place] == code
    block = np.zeros((count, len(kept)), dtype=np.float32)
    block[row[inside], place[inside]] = 1
    return block

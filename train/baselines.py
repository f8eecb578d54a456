"""The systems that a run can be compared with: popularity, neighbours and the rest."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from train.content import CatBoostContent
from train.content_ridge import ContentRidge
from train.factorizations import ALS, SVD
from train.linear_baselines import EASE, SLIM
from train.ragged import Array
from train.scorers import Baseline, Collaborative, Scorer, same_for_all
from train.snapshot import Snapshot
from train.statistics import Statistics
from train.warp import WARP


class Popularity(Baseline):
    """Rank by interactions of all time, the same for every user."""

    name: Literal["popularity"] = "popularity"

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the interactions of each item."""
        return same_for_all(known.statistics.item_count)


class RecentPopularity(Baseline):
    """Rank by interactions of the last days, equal ones by those of all time."""

    name: Literal["recent_popularity"] = "recent_popularity"

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the recent interactions of each item.

        Raises:
            ValueError: the statistics have no window of that length.
        """
        statistics = known.statistics
        share = statistics.item_count / (statistics.item_count.max(initial=0) + 1)
        return same_for_all(_recent(statistics, recent_days) + share)


class ItemKNN(Collaborative):
    """Items near those of the user, by TF-IDF cosine (Sarwar et al. 2001, Deshpande, Karypis 2004).

    A user who took few items says more about each of them: that is the IDF.

    Attributes:
        neighbours: kept of each item, itself among them.
    """

    name: Literal["itemknn"] = "itemknn"
    neighbours: int = Field(default=312, ge=1)

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Keep the nearest items of each item, `[I, I]` sparse."""
        from implicit.nearest_neighbours import tfidf_weight
        from sklearn.preprocessing import normalize

        # implicit's own normalization divides by 0 where all users of an item took everything.
        similarity = _nearest(normalize(tfidf_weight(taken.T).tocsr()), self.neighbours)
        return lambda users: _dense(taken[users] @ similarity)


class UserKNN(Collaborative):
    """Items of the users nearest by BM25 (Robertson, Zaragoza 2009; Herlocker et al. 1999).

    Attributes:
        neighbours: kept of each user, themselves among them; memory grows with U x neighbours.
    """

    name: Literal["userknn"] = "userknn"
    neighbours: int = Field(default=991, ge=1)

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Keep the nearest users of each user, `[U, U]` sparse."""
        from implicit.nearest_neighbours import bm25_weight

        similarity = _nearest(bm25_weight(taken, K1=1.2, B=0.75).tocsr(), self.neighbours)
        return lambda users: _dense(similarity[users] @ taken)


def _recent(statistics: Statistics, days: int) -> Array:
    windows = statistics.recent_days.tolist()
    if days not in windows:
        raise ValueError(f"no recent window of {days} days; available: {windows}")
    recent: Array = statistics.item_recent[windows.index(days)]
    return recent


def _nearest(rows: Any, count: int) -> Any:
    """Return the largest inner products of each row with all rows, CSR [n, n]."""
    from implicit.nearest_neighbours import ItemItemRecommender

    model = ItemItemRecommender(K=count)
    model.fit(rows.T.tocsr(), show_progress=False)
    return model.similarity


def _dense(scores: Any) -> Array:
    return np.asarray(scores.toarray())


BASELINES: Mapping[str, type[Baseline]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "itemknn": ItemKNN,
    "userknn": UserKNN,
    "svd": SVD,
    "als": ALS,
    "ease": EASE,
    "slim": SLIM,
    "warp": WARP,
    "catboost_content": CatBoostContent,
    "content_ridge": ContentRidge,
}

"""The systems that a run can be compared with: popularity, neighbours, SVD, ALS and the rest."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from train.content import CatBoostContent
from train.features import Features
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


class SVD(Collaborative):
    """Truncated SVD of who took what (PureSVD, Cremonesi et al. 2010).

    Attributes:
        rank: singular values kept.
    """

    name: Literal["svd"] = "svd"
    rank: int = Field(default=5, ge=1)

    def check(self, items: int, features: Features) -> None:
        """Check that there are as many items as singular values."""
        if items < self.rank:
            raise ValueError(
                f"svd of rank {self.rank} needs as many warm items, found {items}; lower its rank"
            )

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Factorize by random projections, `[U, rank]` and `[rank, I]`."""
        from sklearn.decomposition import TruncatedSVD

        svd = TruncatedSVD(self.rank, random_state=seed)
        users = svd.fit_transform(taken)
        return lambda rows: np.asarray(users[rows] @ svd.components_)


class ALS(Collaborative):
    """Alternating least squares on implicit feedback (Hu, Koren, Volinsky 2008).

    Attributes:
        factors: width of the vectors.
        regularization: of the vectors' squares.
        alpha: confidence in an interaction, where one in its absence is 1.
        iterations: of both sides.
    """

    name: Literal["als"] = "als"
    factors: int = Field(default=5, ge=1)
    regularization: float = Field(default=0.01, ge=0)
    alpha: float = Field(default=1.0, gt=0)
    iterations: int = Field(default=15, ge=1)

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Factorize, `[U, factors]` and `[I, factors]`."""
        from implicit.cpu.als import AlternatingLeastSquares

        with warnings.catch_warnings():
            # It warns of BLAS threads, which matter for hundreds of factors only.
            warnings.simplefilter("ignore", RuntimeWarning)
            model = AlternatingLeastSquares(**self.model_dump(exclude={"name"}), random_state=seed)
        model.fit(taken, show_progress=False)
        return lambda users: np.asarray(model.user_factors[users] @ model.item_factors.T)


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
}

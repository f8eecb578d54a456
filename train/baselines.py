"""Baselines: popularity and collaborative filtering, as scores of a block of users."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import scipy.sparse
from pydantic import Field

from train.ragged import Array
from train.settings import Settings
from train.snapshot import Snapshot
from train.statistics import Statistics

Scorer = Callable[[Array], Array]
"""From users, int `[B]`, to new scores of every item, floats `[B, I]`."""

EASE_ITEMS = 20_000


class Baseline(Settings):
    """A system to compare with; its name is its row in the report."""

    name: str

    def check(self, items: int) -> None:
        """Raise ValueError where a catalogue of so many warm items is too large to be fitted."""

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Learn from what was known.

        Args:
            known: interactions and statistics.
            recent_days: the window of what is recent.
            seed: of every draw.
        """
        raise NotImplementedError


class Popularity(Baseline):
    """Rank by interactions of all time, the same for every user."""

    name: Literal["popularity"] = "popularity"

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Count the interactions of each item."""
        return _same_for_all(known.statistics.item_count)


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
        return _same_for_all(_recent(statistics, recent_days) + share)


class Collaborative(Baseline):
    """Learns from who took what, 0 or 1, of the users and items that were taken from at all."""

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Return what scores all items for rows of `taken`, 0/1 CSR float32 `[U, I]`."""
        raise NotImplementedError

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Learn; cold items score 0, and so does everything for users without a history."""
        warm_users, warm_items = known.inputs.warm_users, known.inputs.warm_items
        items = np.flatnonzero(warm_items)
        self.check(len(items))
        score = self.learn(_taken(known)[np.flatnonzero(warm_users)][:, items], seed)
        row_of = np.cumsum(warm_users) - 1

        def scores(users: Array) -> Array:
            out = np.zeros((len(users), len(warm_items)))
            rows = np.flatnonzero(warm_users[users])
            out[np.ix_(rows, items)] = score(row_of[users[rows]])
            return out

        return scores


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

    def check(self, items: int) -> None:
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


class EASE(Collaborative):
    """A linear autoencoder without self-similarity, in closed form (Steck 2019).

    Attributes:
        regularization: added to the diagonal of the items' co-occurrences.
    """

    name: Literal["ease"] = "ease"
    regularization: float = Field(default=108_727.0, gt=0)

    def check(self, items: int) -> None:
        """Check that a dense matrix of all pairs of items can be inverted."""
        if items > EASE_ITEMS:
            raise ValueError(
                f"ease inverts a dense matrix of items x items, at most {EASE_ITEMS:,}; found "
                f"{items:,} warm items; take ease out of evaluation.baselines"
            )

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Solve for the weights between items, `[I, I]` dense."""
        weights = self.weights(taken)
        return lambda users: np.asarray(taken[users] @ weights)

    def weights(self, taken: Any) -> Array:
        """Return `B = I - P / diag(P)`, `P = (X^T X + regularization I)^-1`, float64 `[I, I]`."""
        pairs = (taken.T @ taken).toarray().astype(np.float64)
        pairs[np.diag_indices_from(pairs)] += self.regularization
        weights: Array = np.linalg.inv(pairs)
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0.0)
        return weights


def _same_for_all(scores: Array) -> Scorer:
    return lambda users: np.tile(np.asarray(scores, dtype=np.float64), (len(users), 1))


def _recent(statistics: Statistics, days: int) -> Array:
    windows = statistics.recent_days.tolist()
    if days not in windows:
        raise ValueError(f"no recent window of {days} days; available: {windows}")
    recent: Array = statistics.item_recent[windows.index(days)]
    return recent


def _taken(known: Snapshot) -> Any:
    """Return who took what, 0/1 CSR [U, I]: a repeat counts once."""
    taken = known.histories
    shape = len(taken), len(known.inputs.warm_items)
    ones = np.ones(len(taken.values), dtype=np.float32)
    # The matrix sorts and merges in place what it is given.
    arrays = ones, taken.values.copy(), taken.offsets.copy()
    matrix = scipy.sparse.csr_matrix(arrays, shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


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
}

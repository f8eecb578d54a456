"""The base of every baseline: fitted to a snapshot, it scores all items for a block of users."""

from collections.abc import Callable
from typing import Any

import numpy as np

from train.core.ragged import Array
from train.core.schema import Interactions
from train.core.settings import Settings
from train.data.encoders import Features
from train.data.snapshot import Snapshot, TowerInputs

Scorer = Callable[[Array], Array]
"""From users, int `[B]`, to new scores of every item, floats `[B, I]`."""


class Baseline(Settings):
    """A system to compare the recommender with; its name is its row in the report."""

    name: str

    def check(self, items: int, features: Features) -> None:
        """Check that it can be fitted to so many warm items with these attributes.

        Raises:
            ValueError: it cannot.
        """

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Fit to a snapshot.

        Args:
            known: the snapshot: interactions and statistics.
            recent_days: length of the window of recent popularity.
            seed: of every draw.
        """
        raise NotImplementedError


class Collaborative(Baseline):
    """Learns from the interaction matrix of warm users and warm items (collaborative filtering)."""

    def matrix(self, known: Interactions, inputs: TowerInputs) -> Any:
        """Return the interaction matrix to learn from, here 0/1, CSR float32 `[U, I]`."""
        return interaction_matrix(known, inputs)

    def learn(self, matrix: Any, seed: int) -> Scorer:
        """Return a scorer of all items for rows of the interaction matrix, CSR float32 `[U, I]`."""
        raise NotImplementedError

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Fit; cold items score 0, and so does everything for users without a history."""
        items = np.flatnonzero(known.inputs.warm_items)
        self.check(len(items), known.inputs.item_features)
        score = self.learn(self.matrix(known.interactions, known.inputs), seed)
        return of_warm_users(score, known.inputs, items)


def of_warm_users(score: Scorer, inputs: TowerInputs, items: Array) -> Scorer:
    """Return a scorer of all items for all users: 0 for cold users, and for all but these items.

    Args:
        score: of the items at `items` `[m]`, for rows of `interaction_matrix`.
        inputs: warm users and warm items.
        items: indices.
    """
    row_of = np.cumsum(inputs.warm_users) - 1

    def scores(users: Array) -> Array:
        out = np.zeros((len(users), len(inputs.warm_items)))
        rows = np.flatnonzero(inputs.warm_users[users])
        out[np.ix_(rows, items)] = score(row_of[users[rows]])
        return out

    return scores


def same_for_all(scores: Array) -> Scorer:
    """Return a scorer that gives every user these scores, `[I]`."""
    return lambda users: np.tile(np.asarray(scores, dtype=np.float64), (len(users), 1))


def interaction_matrix(known: Interactions, inputs: TowerInputs) -> Any:
    """Return 1 for each pair of a warm user and a warm item that interacted, CSR `[U, I]`.

    It is float32, and 1 however often they did.
    """
    matrix = weighted_matrix(known, np.ones(len(known)), inputs)
    matrix.data[:] = 1
    return matrix


def weighted_matrix(known: Interactions, weight: Array, inputs: TowerInputs) -> Any:
    """Return the weights `[N]` of interactions summed by warm user and warm item, CSR `[U, I]`."""
    matrix = known.summed(weight, len(inputs.warm_users), len(inputs.warm_items))
    return matrix[np.flatnonzero(inputs.warm_users)][:, np.flatnonzero(inputs.warm_items)]

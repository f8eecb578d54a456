"""What a baseline is: it learns from what was known, and scores all items for a block of users."""

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
    """A system to compare with; its name is its row in the report."""

    name: str

    def check(self, items: int, features: Features) -> None:
        """Raise ValueError where so many warm items with these attributes cannot be fitted."""

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Learn from what was known.

        Args:
            known: interactions and statistics.
            recent_days: the window of what is recent.
            seed: of every draw.
        """
        raise NotImplementedError


class Collaborative(Baseline):
    """Learns from who took what, of the users and items that were taken from at all."""

    def taken(self, known: Interactions, inputs: TowerInputs) -> Any:
        """Return what it learns from, here 1 however often one took it, CSR float32 `[U, I]`."""
        return taken_once(known, inputs)

    def learn(self, taken: Any, seed: int) -> Scorer:
        """Return what scores all items for rows of `taken`, CSR float32 `[U, I]`."""
        raise NotImplementedError

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Learn; cold items score 0, and so does everything for users without a history."""
        items = np.flatnonzero(known.inputs.warm_items)
        self.check(len(items), known.inputs.item_features)
        score = self.learn(self.taken(known.interactions, known.inputs), seed)
        return of_warm_users(score, known.inputs, items)


def of_warm_users(score: Scorer, inputs: TowerInputs, items: Array) -> Scorer:
    """Return what scores all items for all users, 0 for cold users and all but these items.

    Args:
        score: scores the items at `items` `[m]` for rows of `taken_once`.
        inputs: who and what is warm.
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
    """Return what gives every user these scores, `[I]`."""
    return lambda users: np.tile(np.asarray(scores, dtype=np.float64), (len(users), 1))


def taken_once(known: Interactions, inputs: TowerInputs) -> Any:
    """Return which warm users took which warm items, 1 however often, CSR float32 `[U, I]`."""
    matrix = summed(known, np.ones(len(known)), inputs)
    matrix.data[:] = 1
    return matrix


def summed(known: Interactions, weight: Array, inputs: TowerInputs) -> Any:
    """Return weights `[N]` of warm users' interactions, summed by pair, CSR float32 `[U, I]`."""
    matrix = known.summed(weight, len(inputs.warm_users), len(inputs.warm_items))
    return matrix[np.flatnonzero(inputs.warm_users)][:, np.flatnonzero(inputs.warm_items)]

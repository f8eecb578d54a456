"""The base of every baseline: fitted to a snapshot, it scores all items for a block of users."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np

from train.core.features import Features
from train.core.ragged import Array
from train.core.schema import Interactions
from train.core.settings import Settings
from train.data.snapshot import Holdout, Snapshot, TowerInputs, of_fewer_users, some_users
from train.index.exact import rank_scores
from train.metrics.ranking import per_user

logger = logging.getLogger(__name__)
TUNED_ON = 2_000  # users of a holdout, at most
TIE = 1e-9  # differences of NDCG up to this are rounding
SIZES = ("rank", "factors", "neighbours")  # settings that cannot exceed the number of items

Scorer = Callable[[Array], Array]
"""From users, int `[B]`, to new scores of every item, floats `[B, I]`."""


class Baseline(Settings):
    """A system to compare the recommender with; its name is its row in the report.

    One that `needs_times` is of no use where interactions have none. A setting that is None is
    picked on the validation window (`tuned`). `grid` has the values to
    choose from, the simplest first, in stages: those of one mapping are picked together, then those
    of the next. Until it is picked, a setting is its `fallback`. One whose fits take long where
    interactions are many picks by fits to `picked_on` of them at the most.
    """

    name: str
    needs_times: ClassVar[bool] = False
    grid: ClassVar[tuple[Mapping[str, tuple[Any, ...]], ...]] = ()
    fallback: ClassVar[Mapping[str, Any]] = {}
    picked_on: ClassVar[int | None] = None

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

    def settled(self) -> Self:
        """Return it with every setting that is None at its fallback."""
        return self.model_copy(
            update={key: of for key, of in self.fallback.items() if getattr(self, key) is None}
        )

    def tuned(self, holdout: Holdout, recent_days: int, k: int, seed: int) -> Self:
        """Return it with every setting that is None at what ranks a holdout's users best.

        That is by the mean NDCG@k over the whole catalogue, of 2,000 users at most, fitted on the
        holdout's snapshot alone, or on that of some of its users (`picked_on`); of equal ones the
        simplest. Without users it is the fallback.

        Args:
            holdout: users, their items, and what was known before.
            recent_days: as in `fit`.
            k: the cut.
            seed: of every draw.
        """
        chosen, some = self, some_users(holdout, TUNED_ON)
        if self.picked_on is not None:
            some = of_fewer_users(some, self.picked_on)
        for stage in self.grid if len(some.users) else ():
            free = {key: of for key, of in stage.items() if getattr(self, key) is None}
            if free:
                options = [self.options(key, of, holdout.known) for key, of in free.items()]
                tables = [dict(zip(free, values, strict=True)) for values in product(*options)]
                chosen = chosen._best(tables, some, recent_days, k, seed)
        return chosen.settled()

    def options(self, key: str, values: tuple[Any, ...], known: Snapshot) -> tuple[Any, ...]:
        """Return the values of a setting that are possible with these data."""
        return values

    def for_share(self, share: float) -> Self:
        """Return settings that are to a share of all users what these are to all of them."""
        return self

    def trials(
        self, choices: Sequence[Self], known: Snapshot, recent_days: int, seed: int
    ) -> Iterator[Scorer]:
        """Yield what each of several choices of its settings learns from a snapshot, in order."""
        return (choice.fit(known, recent_days, seed) for choice in choices)

    def _best(
        self,
        tables: Sequence[Mapping[str, Any]],
        holdout: Holdout,
        recent_days: int,
        k: int,
        seed: int,
    ) -> Self:
        choices = [self.model_copy(update=dict(table)) for table in tables]
        if len(choices) == 1:
            return choices[0]
        known = holdout.known
        # Statistics are those of all, also where the interactions are some users' alone.
        share = len(known.interactions) / max(int(known.statistics.user_count.sum()), 1)
        fitted = [choice.for_share(share) for choice in choices] if share < 1 else choices
        trials = self.trials(fitted, known, recent_days, seed)
        found = [mean_ndcg(score, holdout, k) for score in trials]
        best = next(n for n, ndcg in enumerate(found) if ndcg >= max(found) - TIE)
        logger.info(
            "%s: picked %s, the best of %d on %s users of the validation window, NDCG@%d %.4f, "
            "fitted to %s interactions",
            self.name,
            ", ".join(f"{key} = {value}" for key, value in tables[best].items()),
            len(tables),
            f"{len(holdout.users):,}",
            k,
            found[best],
            f"{len(known.interactions):,}",
        )
        return choices[best]


def mean_ndcg(score: Scorer, holdout: Holdout, k: int) -> float:
    """Return the mean NDCG@k of a holdout's users over what the catalogue has for them."""
    catalogue, score = holdout.known.catalogue, holdout.rankable(score)
    ranked = rank_scores(score, holdout.users, catalogue, holdout.excluded, k)
    return float(per_user(ranked, holdout.relevant, k)["ndcg"].mean())


class Collaborative(Baseline):
    """Learns from the interaction matrix of warm users and warm items (collaborative filtering).

    Users with a history who are not in that matrix are folded in where it `folds_in`.
    """

    folds_in: ClassVar[bool] = True

    def matrix(self, known: Interactions, inputs: TowerInputs) -> Any:
        """Return the interaction matrix to learn from, here 0/1, CSR float32 `[U, I]`."""
        return interaction_matrix(known, inputs)

    def learn(self, matrix: Any, seed: int, asked: Any = None) -> Scorer:
        """Return a scorer of all items for rows of the interaction matrix.

        Args:
            matrix: to learn from, CSR float32 `[U, I]`.
            seed: of every draw.
            asked: 0/1 rows of further users, who are only folded in, and come after the others, CSR
                float32 `[A, I]`; None for none.
        """
        raise NotImplementedError

    def learn_each(
        self, choices: Sequence[Self], matrix: Any, seed: int, asked: Any = None
    ) -> Iterator[Scorer]:
        """Yield what each of several choices of its settings learns, as `learn`."""
        return (choice.learn(matrix, seed, asked) for choice in choices)

    def options(self, key: str, values: tuple[Any, ...], known: Snapshot) -> tuple[Any, ...]:
        """Return the values of a setting; sizes are no more than there are warm items."""
        if key not in SIZES:
            return values
        most = max(int(known.inputs.warm_items.sum()), 1)
        return tuple(dict.fromkeys(min(value, most) for value in values))

    def trials(
        self, choices: Sequence[Self], known: Snapshot, recent_days: int, seed: int
    ) -> Iterator[Scorer]:
        """Yield what each choice learns from one interaction matrix."""
        items = np.flatnonzero(known.inputs.warm_items)
        matrix = self.matrix(known.interactions, known.inputs)
        for score in self.learn_each(choices, matrix, seed, asked_matrix(known)):
            yield of_known_users(score, known, items)

    def fit(self, known: Snapshot, recent_days: int, seed: int) -> Scorer:
        """Fit; cold items score 0, and so does everything for users without a history."""
        items = np.flatnonzero(known.inputs.warm_items)
        self.check(len(items), known.inputs.item_features)
        matrix = self.matrix(known.interactions, known.inputs)
        return of_known_users(self.learn(matrix, seed, asked_matrix(known)), known, items)


def asked_users(known: Snapshot) -> Array:
    """Return the users whose history is known and was not learned from, int64 `[A]`."""
    return np.flatnonzero((known.histories.lengths > 0) & ~known.inputs.warm_users)


def asked_matrix(known: Snapshot) -> Any:
    """Return 1 for each warm item of the histories of `asked_users`, CSR `[A, I]`; None for none.

    Columns are those of `interaction_matrix`.
    """
    users = asked_users(known)
    if not len(users):
        return None
    from scipy.sparse import csr_matrix

    rows = known.histories.take(users)
    ones = np.ones(len(rows.values), np.float32)
    shape = len(users), len(known.inputs.warm_items)
    matrix = csr_matrix((ones, rows.values, rows.offsets), shape=shape, copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix[:, np.flatnonzero(known.inputs.warm_items)]


def with_rows(matrix: Any, asked: Any) -> Any:
    """Return a sparse matrix `[U, I]` with further rows `[A, I]`, if there are any, below it."""
    if asked is None:
        return matrix
    from scipy.sparse import vstack

    return vstack([matrix, asked], format="csr")


def of_known_users(score: Scorer, known: Snapshot, items: Array) -> Scorer:
    """Return a scorer of all items for all users: 0 without a history, and for all but these items.

    Args:
        score: of the items at `items` `[m]`, for rows of `interaction_matrix` and after these of
            `asked_matrix`.
        known: warm users and `asked_users`.
        items: indices.
    """
    warm, asked = known.inputs.warm_users, asked_users(known)
    row_of = np.where(warm, np.cumsum(warm) - 1, -1)
    row_of[asked] = int(warm.sum()) + np.arange(len(asked))

    def scores(users: Array) -> Array:
        out = np.zeros((len(users), len(known.inputs.warm_items)))
        rows = np.flatnonzero(row_of[users] >= 0)
        # Not by `np.ix_`, which takes five times as long where all have a history.
        some = out if len(rows) == len(users) else np.zeros((len(rows), out.shape[1]))
        some[:, items] = score(row_of[users[rows]])
        if some is not out:
            out[rows] = some
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

"""What every tower is: two sides, layers over them, and vectors that rank the catalogue.

Shapes: U users, I items, B batch, M items asked for, h history length, N items in all histories of
a batch, w width of what is looked up of an item, d width of the vectors.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.encoded import Encoded
from train.data.encoders import Features
from train.data.ids import IdMap
from train.data.linear_score import NONE, LinearScore
from train.data.splits import TEST, TRAIN, VALIDATION, Folds, Split, first_pairs
from train.data.statistics import Statistics


@dataclass(frozen=True)
class TowerInputs:
    """The tables that towers look up.

    Attributes:
        user_features: of the U users.
        item_features: of the I items.
        warm_users: users with a training interaction, bool `[U]`; only these have an id embedding.
        warm_items: the same for items, bool `[I]`.
    """

    user_features: Features
    item_features: Features
    warm_users: Array
    warm_items: Array


RECENT_DAYS = (7, 30)


@dataclass(frozen=True)
class Snapshot:
    """The knowledge of a moment; nothing in it comes from that moment or later.

    Attributes:
        interactions: those that were known.
        as_of: the moment, seconds.
        histories: items of each user, oldest first, U rows.
        statistics: popularity, recency and co-occurrence.
        inputs: what towers look up.
        catalogue: items that may be recommended, bool `[I]`.
    """

    interactions: Interactions
    as_of: int
    histories: Ragged
    statistics: Statistics
    inputs: TowerInputs
    catalogue: Array


def snapshot(
    data: Encoded,
    known: Array,
    as_of: int,
    recent_days: int,
    with_cold: bool = False,
    linear_score: LinearScore = NONE,
) -> Snapshot:
    """Return what was known at `as_of` of the interactions chosen by the mask `known` `[N]`.

    Items that nobody took are in the catalogue only `with_cold`.
    """
    past = data.interactions.take(known)
    n_users, n_items = len(data.users), len(data.items)
    days = recent_windows(recent_days)
    statistics = Statistics.from_interactions(past, n_users, n_items, as_of, days, linear_score)
    return Snapshot(
        interactions=past,
        as_of=as_of,
        histories=Ragged.from_pairs(past.user, past.item, n_users),
        statistics=statistics,
        inputs=TowerInputs(
            data.user_features,
            data.item_features,
            warm_users=statistics.user_count > 0,
            warm_items=statistics.item_count > 0,
        ),
        catalogue=(statistics.item_count > 0) | with_cold,
    )


def recent_windows(recent_days: int) -> tuple[int, ...]:
    """Return the recent windows that are counted in, days, where a run asks for one of them."""
    return tuple(sorted({*RECENT_DAYS, recent_days}))


@dataclass(frozen=True)
class Holdout:
    """Users and the items that each takes within a time, new to them: the ground truth.

    Attributes:
        users: int32 `[V]`.
        relevant: items of each, V rows.
        known: snapshot at the beginning of that time.
    """

    users: Array
    relevant: Ragged
    known: Snapshot

    def take(self, rows: Array) -> "Holdout":
        """Return some of the users."""
        return replace(self, users=self.users[rows], relevant=self.relevant.take(rows))


def validation_holdout(data: Encoded, folds: Folds, known: Snapshot) -> Holdout:
    """Return the users of `[t1, t2)` who were known at t1, and what they took of the catalogue."""
    counts = folds.fold == VALIDATION
    # A repeat is no recommendation: what a user had before is never ranked again.
    counts &= first_pairs_of(data, folds)
    counts &= known.catalogue[data.interactions.item]
    counts &= known.inputs.warm_users[data.interactions.user]
    return _holdout(data, counts, known)


def like_test(holdout: Holdout, split: Split, least: int = 1) -> Holdout:
    """Return the users that meet the split's test minimums; all, if fewer than `least` do.

    Where the split asks for much of its test users, few others say little about them.
    """
    enough = holdout.known.histories.lengths[holdout.users] >= split.min_user_history
    enough &= holdout.relevant.lengths >= split.min_user_test
    return holdout.take(np.flatnonzero(enough)) if enough.sum() >= max(least, 1) else holdout


def some_users(holdout: Holdout, count: int | None) -> Holdout:
    """Return the holdout of so many of its users, drawn once for all runs; all for None."""
    if count is None or count >= len(holdout.users):
        return holdout
    # Not by the run's seed: what is compared is measured on the same users.
    drawn = np.random.default_rng(0).choice(len(holdout.users), count, replace=False)
    return holdout.take(np.sort(drawn))


def held_out(data: Encoded, folds: Folds, known: Snapshot) -> Holdout:
    """Return the users who are evaluated and their test items."""
    return _holdout(data, folds.fold == TEST, known)


def first_pairs_of(data: Encoded, folds: Folds) -> Array:
    """Return whether an interaction is the first of its pair among those left in, bool `[N]`."""
    left = np.flatnonzero((folds.fold == TRAIN) | (folds.fold == VALIDATION))
    first = np.zeros(len(folds.fold), dtype=bool)
    first[left] = first_pairs(data.interactions.take(left), len(data.items))
    return first


def _holdout(data: Encoded, counts: Array, known: Snapshot) -> Holdout:
    chosen = data.interactions.take(counts)
    users, row = np.unique(chosen.user, return_inverse=True)
    relevant = Ragged.from_pairs(row, chosen.item, len(users))
    return Holdout(users.astype(np.int32), relevant, known)


def holdout_fingerprint(users: IdMap, items: IdMap, holdout: Holdout) -> str:
    """Return a sha256 over a holdout's interactions, by their ids: the same test, the same text.

    It does not depend on what else the data has, nor on the order in which a user took items.
    """
    relevant = holdout.relevant
    taken = relevant.values[np.lexsort((relevant.values, relevant.rows))]
    sha = hashlib.sha256(np.ascontiguousarray(relevant.offsets).tobytes())
    for ids in (users.external(holdout.users), items.external(taken)):
        sha.update("\n".join(map(str, ids)).encode())
    return sha.hexdigest()


def fingerprint(data: Encoded) -> str:
    """Return a sha256 over ids, interactions and attributes: the same data, the same text."""
    sha, events = hashlib.sha256(), data.interactions
    for array in (events.user, events.item, events.timestamp, events.weight):
        sha.update(array.tobytes())
    for ids in (data.users.ids, data.items.ids):
        sha.update("\n".join(map(str, ids.to_pylist())).encode())
    sha.update(data.attributes.encode())
    return sha.hexdigest()

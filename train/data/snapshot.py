"""Snapshots of the data at a moment, and the holdouts that are predicted from them.

Shapes: N interactions, U users, I items, V users of a holdout.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from train.core.blocks import counted, row_blocks
from train.core.features import Features
from train.core.hashing import digest
from train.core.keys import distinct, is_in
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions, Seen
from train.data.encoded import Encoded
from train.data.ids import IdMap
from train.data.linear_score import NONE, LinearModel, LinearScore
from train.data.pairs import first_pairs, hidden_pairs, pairs_of_window
from train.data.splits.base import (
    TEST,
    TRAIN,
    VALIDATION,
    Folds,
    Split,
)
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
    """The data as of a moment; nothing in it comes from that moment or later.

    Attributes:
        interactions: those before the moment.
        as_of: the moment, seconds.
        histories: items of each user, oldest first, U rows.
        statistics: popularity, recency and co-occurrence.
        linear_score: the fitted model of the linear score.
        inputs: tables that towers look up.
        catalogue: items that may be recommended, bool `[I]`.
        hidden: items that negative events hide from each user, ascending, U rows. They are neither
            among the interactions nor in histories, and never recommended to that user.
    """

    interactions: Interactions
    as_of: int
    histories: Ragged
    statistics: Statistics
    linear_score: LinearModel
    inputs: TowerInputs
    catalogue: Array
    hidden: Ragged


def snapshot(
    data: Encoded,
    known: Array,
    as_of: int,
    recent_days: int,
    with_cold: bool = False,
    linear_score: LinearScore = NONE,
) -> Snapshot:
    """Return the snapshot at a moment.

    Args:
        data: all of it.
        known: mask of the interactions that may be in it, negative ones too, bool `[N]`.
        as_of: the moment, seconds.
        recent_days: length of a recent window to be counted, beside those always counted.
        with_cold: whether items without an interaction are in the catalogue.
        linear_score: settings of a further score of candidates.
    """
    n_users, n_items = len(data.users), len(data.items)
    past, hidden = _without_hidden(data.interactions.take(known), n_users, n_items)
    days = recent_windows(recent_days, data.interactions.timed)
    statistics = Statistics.from_interactions(past, n_users, n_items, as_of, days)
    return Snapshot(
        interactions=past,
        as_of=as_of,
        histories=Ragged.from_pairs(past.user, past.item, n_users),
        statistics=statistics,
        linear_score=linear_score.fit(past.take(past.timestamp < as_of), n_users, n_items),
        inputs=TowerInputs(
            data.user_features,
            data.item_features,
            warm_users=statistics.user_count > 0,
            warm_items=statistics.item_count > 0,
        ),
        catalogue=(statistics.item_count > 0) | with_cold,
        hidden=hidden,
    )


def _without_hidden(
    events: Interactions, n_users: int, n_items: int
) -> tuple[Interactions, Ragged]:
    """Return the positive interactions with what no negative one hides, and what is hidden."""
    if events.role is None:
        return events, Ragged.empty(n_users)
    keys = events.keys(n_items)
    hidden = distinct(keys[events.negative])
    user, item = np.divmod(hidden, n_items)
    kept = events.positive & ~is_in(keys, hidden)
    return events.take(kept), Ragged.from_pairs(user, item, n_users)


def with_asked(known: Snapshot, data: Encoded, asked: Array) -> Snapshot:
    """Return a snapshot with histories of users who are known by these alone.

    Nothing was learned from them: they are neither among the interactions nor in the statistics.

    Args:
        known: what was learned from.
        data: all of it.
        asked: mask of the interactions that such histories have, bool `[N]`.
    """
    if not asked.any():
        return known
    rows, size = data.interactions.take(asked & data.interactions.positive), len(data.items)
    hidden = known.hidden.rows * size + known.hidden.values
    rows = rows.take(~is_in(rows.keys(size), hidden))
    histories = Ragged.from_pairs(rows.user, rows.item, len(data.users))
    return replace(known, histories=known.histories.join(histories))


def recent_windows(recent_days: int, timed: bool = True) -> tuple[int, ...]:
    """Return the lengths of the recent windows that are counted, days: the given and the usual.

    Where interactions have no times, there are none.
    """
    return tuple(sorted({*RECENT_DAYS, recent_days})) if timed else ()


@dataclass(frozen=True)
class Holdout:
    """Ground truth: users and the items that each interacts with in a window.

    Attributes:
        users: int32 `[V]`.
        relevant: items of each, V rows.
        known: snapshot at the beginning of the window.
        seen: what the items of the histories are: not ranked ("exclude"), ranked like others
            ("allow"), or the only ones that are ("only").
    """

    users: Array
    relevant: Ragged
    known: Snapshot
    seen: Seen = "exclude"

    @property
    def hidden(self) -> Ragged:
        """Items of each user that negative events hide, V rows."""
        return self.known.hidden.take(self.users)

    @property
    def excluded(self) -> Ragged:
        """Items of each user that are not ranked: hidden ones, and those of the history, V rows."""
        if self.seen != "exclude":
            return self.hidden
        histories = self.known.histories.take(self.users)
        return histories.join(self.hidden) if len(self.known.hidden.values) else histories

    def rankable(self, score: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return scores `[B, I]` of users `[B]` that are -inf for what is not ranked by itself.

        That is items outside the history, where only its items are ranked.
        """
        if self.seen != "only":
            return score
        histories = self.known.histories

        def scores(users: Array) -> Array:
            every, history = score(users), histories.take(users)
            out = np.full(every.shape, -np.inf)
            out[history.rows, history.values] = every[history.rows, history.values]
            return out

        return scores

    def take(self, rows: Array) -> "Holdout":
        """Return some of the users."""
        return replace(self, users=self.users[rows], relevant=self.relevant.take(rows))


def validation_holdout(data: Encoded, folds: Folds, known: Snapshot) -> Holdout:
    """Return the validation window `[t1, t2)`: users with a history, and items of the catalogue."""
    events, size = data.interactions, len(data.items)
    counts = (folds.fold == VALIDATION) & events.counted
    if folds.seen == "exclude" and events.role is None:
        # Repeats are not ground truth: items of a user's history are never ranked again.
        counts &= first_pairs_of(data, folds)
    else:
        counts = pairs_of_window(events, counts, folds.fold == TRAIN, size, folds.seen)
    counts &= ~hidden_pairs(events, folds.before_test, size)
    counts &= known.catalogue[data.interactions.item]
    counts &= (known.histories.lengths > 0)[data.interactions.user]
    return _holdout(data, counts, known, folds.seen)


def like_test(holdout: Holdout, split: Split, least: int = 1) -> Holdout:
    """Return the validation users that meet the split's test minimums; all, if too few do.

    Users with less data than the test's are ranked differently, and would mislead what is chosen on
    them.

    Args:
        holdout: of the validation window.
        split: with the minimums.
        least: users that suffice.
    """
    enough = holdout.known.histories.lengths[holdout.users] >= split.min_user_history
    enough &= holdout.relevant.lengths >= split.min_user_test
    return holdout.take(np.flatnonzero(enough)) if enough.sum() >= max(least, 1) else holdout


def some_users(holdout: Holdout, count: int | None) -> Holdout:
    """Return the holdout of a random sample of its users, the same for all runs; all for None."""
    if count is None or count >= len(holdout.users):
        return holdout
    # A fixed seed, not the run's: runs are compared on the same users.
    drawn = np.random.default_rng(0).choice(len(holdout.users), count, replace=False)
    return holdout.take(np.sort(drawn))


def of_fewer_users(holdout: Holdout, interactions: int) -> Holdout:
    """Return the holdout with a snapshot of its own users and of others, drawn.

    The others have no interaction and no history in it; its statistics are still those of all.

    Args:
        holdout: users, their items, and what was known before.
        interactions: that the snapshot has, unless the holdout's own users have more.
    """
    known, events = holdout.known, holdout.known.interactions
    if len(events) <= interactions:
        return holdout
    count = len(known.inputs.warm_users)
    kept = np.zeros(count, dtype=bool)
    kept[holdout.users] = True
    # A fixed seed, not the run's: runs are compared on the same users.
    others = np.random.default_rng(0).permutation(np.flatnonzero(~kept))
    lengths = counted(events.user, count)
    left = interactions - lengths[holdout.users].sum()
    kept[others[np.cumsum(lengths[others]) <= left]] = True
    fewer = replace(
        known,
        interactions=events.take(kept[events.user]),
        histories=known.histories.take(np.where(kept, np.arange(count), -1)),
        inputs=replace(known.inputs, warm_users=known.inputs.warm_users & kept),
    )
    return replace(holdout, known=fewer)


def held_out(data: Encoded, folds: Folds, known: Snapshot) -> Holdout:
    """Return the test: the users who are evaluated and their items."""
    return _holdout(data, folds.fold == TEST, known, folds.seen)


def first_pairs_of(data: Encoded, folds: Folds) -> Array:
    """Return whether an interaction is its pair's first in training and validation, bool `[N]`."""
    left = (folds.fold == TRAIN) | (folds.fold == VALIDATION)
    return first_pairs(data.interactions, len(data.items), left)


def _holdout(data: Encoded, counts: Array, known: Snapshot, seen: Seen) -> Holdout:
    chosen = data.interactions.take(counts)
    users, row = np.unique(chosen.user, return_inverse=True)
    relevant = Ragged.from_pairs(row, chosen.item, len(users))
    return Holdout(users.astype(np.int32), relevant, known, seen)


def holdout_fingerprint(users: IdMap, items: IdMap, holdout: Holdout) -> str:
    """Return a sha256 over a holdout's interactions by their external ids.

    It depends neither on other data nor on the order of a user's interactions, so equal tests have
    equal fingerprints.
    """
    relevant = holdout.relevant
    item = relevant.values[np.lexsort((relevant.values, relevant.rows))]
    sha = hashlib.sha256(np.ascontiguousarray(relevant.offsets).tobytes())
    for ids in (users.external(holdout.users), items.external(item)):
        sha.update("\n".join(map(str, ids)).encode())
    return sha.hexdigest()


def fingerprint(data: Encoded) -> str:
    """Return a sha256 over ids, interactions and attributes."""
    sha, events = hashlib.sha256(), data.interactions
    for array in (events.user, events.item, events.timestamp, events.weight, events.role):
        if array is not None:
            digest(sha, array)
    for ids in (data.users.ids, data.items.ids):
        for rows in row_blocks(len(ids)):
            # One text of all ids, a line each.
            sha.update(b"\n" if rows.start else b"")
            some = ids.slice(rows.start, rows.stop - rows.start).to_pylist()
            sha.update("\n".join(map(str, some)).encode())
    sha.update(data.attributes.encode())
    return sha.hexdigest()

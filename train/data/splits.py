"""Which interactions train, which validate and which test. To add a split: a class and a line.

Towers first see fold 0. Fold 1, the validation window `[t1, t2)`, stops their training and teaches
the reranker. Both together are what is known when the test begins; fold 2 is the test.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from train.core.ragged import Array
from train.core.schema import Interactions
from train.core.settings import Settings

TRAIN, VALIDATION, TEST, LEFT_OUT = 0, 1, 2, -1
DAY = 86_400

Count = Annotated[int, Field(ge=0)]
Quantile = Annotated[float, Field(gt=0, lt=1)]


def _seconds(moment: int | str) -> int:
    """Return a moment in seconds since 1970; without a zone it is in UTC."""
    if isinstance(moment, int):
        return moment
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError as error:
        raise ValueError(
            f"expected seconds since 1970 or an ISO date or time (2024-01-31T12:00), got {moment!r}"
        ) from error
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


def _readable(moment: int | str | None) -> int | str | None:
    if moment is not None:
        _seconds(moment)
    return moment


def _text(moment: Any) -> Any:
    return moment.isoformat() if isinstance(moment, date) else moment


# TOML has dates of its own; the settings keep them as text, which JSON can hold too.
Moment = Annotated[int | str | None, BeforeValidator(_text), AfterValidator(_readable)]


@dataclass(frozen=True)
class Folds:
    """The fold of each interaction.

    Attributes:
        fold: 0 train, 1 validation, 2 test, -1 left out, int8 `[N]`.
        t1: seconds; validation starts here.
        t2: seconds; the test starts here.
        test_users: users who are evaluated, ascending, int32.
    """

    fold: Array
    t1: int
    t2: int
    test_users: Array

    @property
    def before_test(self) -> Array:
        """Which interactions train or validate, bool `[N]`."""
        return (self.fold >= TRAIN) & (self.fold < TEST)


class Split(Settings):
    """How interactions are divided, and which of them count.

    Counts are taken once, over the part before the test (folds 0 and 1). Users and items below
    their minimum there are left out of it, and so are unknown to the towers. In the test a pair
    counts when the user did not have the item before, in the test or ahead of it, and when user
    and item are warm, that is left in the part before the test. All others get fold -1.

    Attributes:
        min_user_train: interactions before the test that a user needs to be trained on.
        min_item_train: the same for an item.
        warm_users: test only users who are left in training.
        warm_items: test only items that are left in training.
        min_user_history: interactions left before the test that a user needs to be tested.
        min_user_test: test pairs that count that a user needs to be tested.
    """

    min_user_train: Count = 1
    min_item_train: Count = 1
    warm_users: bool = True
    warm_items: bool = True
    min_user_history: Count = 0
    min_user_test: Count = 1

    def folds(self, interactions: Interactions, n_users: int, n_items: int) -> Folds:
        """Divide interactions, ordered by user and then by time.

        Raises:
            ValueError: a fold is empty; the message has the counts and names settings to change.
        """
        fold, t1, t2 = self.cut(interactions)
        cut_counts = _counts(fold)
        fold = self._filtered(interactions, fold, n_users, n_items)
        users = np.unique(interactions.user[fold == TEST]).astype(np.int32)
        result = Folds(fold, t1, t2, users)
        self._check(result, cut_counts)
        return result

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Return the folds before any filter, int8 `[N]`, and both cut times."""
        raise NotImplementedError

    def _filtered(
        self, interactions: Interactions, fold: Array, n_users: int, n_items: int
    ) -> Array:
        user, item = interactions.user, interactions.item
        before = fold < TEST
        kept = np.bincount(user[before], minlength=n_users)[user] >= self.min_user_train
        kept &= np.bincount(item[before], minlength=n_items)[item] >= self.min_item_train
        before &= kept
        history = np.bincount(user[before], minlength=n_users)
        counts = (fold == TEST) & first_pairs(interactions, n_items)
        counts &= history[user] >= max(self.min_user_history, int(self.warm_users))
        if self.warm_items:
            counts &= np.bincount(item[before], minlength=n_items)[item] > 0
        counts &= np.bincount(user[counts], minlength=n_users)[user] >= self.min_user_test
        return np.where(before | counts, fold, LEFT_OUT).astype(np.int8)

    def _check(self, folds: Folds, cut_counts: str) -> None:
        sizes = np.bincount(folds.fold[folds.fold >= 0], minlength=3)
        if sizes.all():
            return
        names = ("train", "validation", "test")
        empty = ", ".join(name for name, size in zip(names, sizes, strict=True) if not size)
        settings = ", ".join(
            f"{name}={value}" for name, value in self.model_dump(exclude={"name"}).items()
        )
        raise ValueError(
            f"empty split: no {empty} interactions are left. Of {len(folds.fold):,} interactions "
            f"the cut put {cut_counts}; the minimum counts and warm filters kept "
            f"{_counts(folds.fold)}. Move the cut or lower the minimum counts ({settings})"
        )


class Time(Split):
    """One moment for everybody: what happened from then on is the test.

    Attributes:
        at: the moment, in seconds or as an ISO date or time (UTC without a zone); interactions at
            this time or later are the test.
        quantile: instead of `at`: this share of the interactions comes before the test, by linear
            interpolation between times; all at the quantile itself come before.
        validation_quantile: the same share, of what is before the test, that comes before the
            validation window.
        validation_at: instead of `validation_quantile`: the moment where that window begins.
    """

    name: Literal["time"] = "time"
    at: Moment = None
    quantile: Quantile | None = None
    validation_quantile: Quantile = 0.9
    validation_at: Moment = None

    @model_validator(mode="after")
    def _one_cut(self) -> "Time":
        if self.at is not None and self.quantile is not None:
            raise ValueError("the time split takes at or quantile, not both; drop one of them")
        return self

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Cut at two moments; without `at` and `quantile` the test starts at the 0.8 quantile."""
        times = interactions.timestamp
        t2 = _after(times, self.quantile or 0.8) if self.at is None else _seconds(self.at)
        t1 = t2
        if self.validation_at is not None:
            t1 = _seconds(self.validation_at)
        elif (times < t2).any():
            t1 = _after(times[times < t2], self.validation_quantile)
        return _between(times, t1, t2), t1, t2


class LastDays(Split):
    """The last days are the test, and the days before them the validation window.

    Attributes:
        days: length of the test, back from the newest interaction.
        validation_days: length of the validation window before it.
    """

    name: Literal["last_days"] = "last_days"
    days: float = Field(default=7.0, gt=0)
    validation_days: float = Field(default=7.0, gt=0)

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Cut `days` before the newest interaction, and `validation_days` before that."""
        times = interactions.timestamp
        newest = int(times.max()) if len(times) else 0
        t2 = newest + 1 - round(self.days * DAY)
        t1 = t2 - round(self.validation_days * DAY)
        return _between(times, t1, t2), t1, t2


class LeaveLast(Split):
    """The newest interactions of each user are the test, the next newest the validation.

    Users with too few interactions for both and one more are trained on only. The cut is not in
    time: others' later interactions are known in training, so results look better than they would
    be. `t1` and `t2` are one second after the newest interaction of what comes before.

    Attributes:
        test: interactions of each user that are the test.
        validation: interactions of each user, before these, that are the validation.
    """

    name: Literal["leave_last"] = "leave_last"
    test: int = Field(default=1, ge=1)
    validation: int = Field(default=1, ge=1)

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Number each user's interactions from the newest back."""
        user = interactions.user
        ends = np.searchsorted(user, user, side="right")
        starts = np.searchsorted(user, user, side="left")
        back = ends - np.arange(len(user))  # 1 for the newest
        enough = ends - starts > self.test + self.validation
        fold = np.zeros(len(user), np.int8)
        fold[enough & (back <= self.test + self.validation)] = VALIDATION
        fold[enough & (back <= self.test)] = TEST
        t1, t2 = (_end(interactions.timestamp[fold < f]) for f in (VALIDATION, TEST))
        return fold, t1, t2


class HoldOutItems(Split):
    """Some items are known by their attributes alone: all that was taken of them is the test.

    It measures recommending what nobody has taken yet, and wants `catalogue = "all"`. The cut is
    not in time: `t1` and `t2` are one second after the newest interaction of what is learned from.

    Attributes:
        test: share of the items that are held out.
        validation: share of the items that are held out while the towers are chosen.
        draw: seed of which ones.
    """

    name: Literal["hold_out_items"] = "hold_out_items"
    warm_items: bool = False
    test: Quantile = 0.05
    validation: Quantile = 0.05
    draw: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_are_left(self) -> "HoldOutItems":
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test and validation hold out all items: expected less than 1 together, got "
                f"{self.test + self.validation:g}"
            )
        return self

    def cut(self, interactions: Interactions) -> tuple[Array, int, int]:
        """Draw the items of the test, and then those of the validation."""
        items = np.unique(interactions.item)
        order = np.random.default_rng(self.draw).permutation(len(items))
        place = np.empty(len(items), np.int64)
        place[order] = np.arange(len(items))
        share = (place / max(1, len(items)))[np.searchsorted(items, interactions.item)]
        fold = np.full(len(share), TRAIN, np.int8)
        fold[share < self.test + self.validation] = VALIDATION
        fold[share < self.test] = TEST
        t1, t2 = (_end(interactions.timestamp[fold < f]) for f in (VALIDATION, TEST))
        return fold, t1, t2


SPLITS: dict[str, type[Split]] = {
    "time": Time,
    "last_days": LastDays,
    "leave_last": LeaveLast,
    "hold_out_items": HoldOutItems,
}


def first_pairs(interactions: Interactions, n_items: int) -> Array:
    """Return whether an interaction is the first of its user with its item, bool `[N]`."""
    key = interactions.user.astype(np.int64) * n_items + interactions.item
    first = np.zeros(len(key), dtype=bool)
    first[np.unique(key, return_index=True)[1]] = True
    return first


def _between(times: Array, t1: int, t2: int) -> Array:
    return ((times >= t1).astype(np.int8) + (times >= t2)).astype(np.int8)


def _after(times: Array, quantile: float) -> int:
    """Return the first whole second after a quantile of the times."""
    return int(np.floor(np.quantile(times, quantile))) + 1 if len(times) else 0


def _end(times: Array) -> int:
    return int(times.max()) + 1 if len(times) else 0


def _counts(fold: Array) -> str:
    train, validation, test = np.bincount(fold[fold >= 0], minlength=3)[:3]
    return f"{train:,} in train, {validation:,} in validation and {test:,} in test"

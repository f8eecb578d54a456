"""Interactions with a planted structure, drawn from a seed.

Every item belongs to one taste, and tastes come in families. A user draws from a few tastes, in
proportions that shift during the user's life; within a taste an item is drawn by its popularity, a
power law (Zipf) over the whole catalogue that fades with the item's age. Attributes tell the taste
only with a certain probability, so that attributes explain a part of it and histories the rest.

Shapes: U users, I items, T tastes, P periods, N interactions, n draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from train.core.ragged import Array

if TYPE_CHECKING:
    from train.datasets.generated import Generated

_PROPORTIONS = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])  # early and late in a user's life
_CHUNK = 1_000_000  # interactions drawn at once: some 100 MB of temporaries
_ROUNDS = 40  # chunks drawn for each one that is needed, before pairs are taken to be too few
_LAST = 0.1  # the share of the time, at its end, in which cold users and items first appear


@dataclass(frozen=True)
class PlantedWorld:
    """The planted structure, which the tables show only in part.

    Attributes:
        taste: of each item, int64 `[I]`.
        popularity: of each item when it appears, float64 `[I]`.
        born: day on which each item appears, float64 `[I]`.
        user_tastes: three tastes of each user, int64 `[U, 3]`.
        activity: share of the interactions of each user, float64 `[U]`.
        joined: day on which each user appears, float64 `[U]`.
    """

    taste: Array
    popularity: Array
    born: Array
    user_tastes: Array
    activity: Array
    joined: Array


def plant(settings: "Generated", random: np.random.Generator) -> PlantedWorld:
    """Draw tastes, popularity and the days of first appearance."""
    rank = random.permutation(settings.items)
    activity = random.lognormal(0.0, 1.0, settings.users)
    return PlantedWorld(
        taste=random.permutation(settings.items) % settings.tastes,
        popularity=(rank + 10.0) ** -settings.zipf,
        born=_starts(random, settings.items, settings.cold_items, settings.days, old=0.5),
        user_tastes=_user_tastes(settings, random),
        activity=activity / activity.sum(),
        joined=_starts(random, settings.users, settings.cold_users, settings.days, old=0.3),
    )


def _starts(random: np.random.Generator, count: int, cold: float, days: int, old: float) -> Array:
    """Draw days of appearing: a share `old` from the beginning, a share `cold` only at the end."""
    late = days * (1 - _LAST)
    start = np.where(random.random(count) < old, 0.0, random.uniform(0, 0.8 * late, count))
    return np.where(random.random(count) < cold, random.uniform(late, days, count), start)


def _user_tastes(settings: "Generated", random: np.random.Generator) -> Array:
    """Draw tastes: the first from a skewed distribution, the others mostly of the same family."""
    share = (np.arange(settings.tastes) + 3.0) ** -0.5
    first = random.choice(settings.tastes, settings.users, p=share / share.sum())
    near = (first[:, None] // 2 * 2 + random.integers(0, 2, (settings.users, 2))) % settings.tastes
    far = random.integers(0, settings.tastes, (settings.users, 2))
    others = np.where(random.random((settings.users, 2)) < 0.5, near, far)
    return np.column_stack([first, others])


def draw(
    settings: "Generated", world: PlantedWorld, random: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw different pairs: user and item, int64 `[N]`, and the day of each, float64 `[N]`.

    Raises:
        ValueError: they cannot be found.
    """
    keys, days = np.empty(0, np.int64), np.empty(0)
    for chunk_keys, chunk_days in _chunks(settings, world, random):
        keys, days = np.append(keys, chunk_keys), np.append(days, chunk_days)
        if len(keys) < settings.interactions:
            continue
        _, first = np.unique(keys, return_index=True)
        first.sort()
        keys, days = keys[first][: settings.interactions], days[first][: settings.interactions]
        if len(keys) == settings.interactions:
            return keys // settings.items, keys % settings.items, days
    raise ValueError(
        f"expected {settings.interactions:,} different pairs of {settings.users:,} users and "
        f"{settings.items:,} items; found {len(keys):,}. Set fewer interactions, or more users or "
        "items"
    )


def _chunks(
    settings: "Generated", world: PlantedWorld, random: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    popularity = _Popularity.of(settings, world)
    users = np.cumsum(world.activity)
    size = min(_CHUNK, settings.interactions)
    for _ in range(_ROUNDS * -(-settings.interactions // size)):
        user = np.minimum(users.searchsorted(random.random(size)), settings.users - 1)
        life = random.random(size)
        day = world.joined[user] + life * (settings.days - world.joined[user])
        taste = _tastes(settings, world, random, user, life)
        item = popularity.draw(random, taste, day)
        there = item >= 0  # a taste may have no item yet on that day
        yield (user * settings.items + item)[there], day[there]


def _tastes(
    settings: "Generated",
    world: PlantedWorld,
    random: np.random.Generator,
    user: Array,
    life: Array,
) -> Array:
    early = (random.random(len(user)) < life).astype(np.int64)
    bounds = np.cumsum(_PROPORTIONS, axis=1)[early]
    which = (random.random((len(user), 1)) > bounds[:, :-1]).sum(axis=1)
    own = world.user_tastes[user, which]
    any_taste = random.integers(0, settings.tastes, len(user))
    return np.where(random.random(len(user)) < settings.noise, any_taste, own)


@dataclass(frozen=True)
class _Popularity:
    """How likely each item of a taste is in each period, as one running sum over all of them.

    Attributes:
        order: items by taste, int64 `[I]`.
        bounds: running sum before each (period, taste), float64 `[P, T + 1]`.
        total: running sum over the items, by period and then in `order`, float64 `[P * I]`.
        period_days: length of a period.
    """

    order: Array
    bounds: Array
    total: Array
    period_days: float

    @classmethod
    def of(cls, settings: "Generated", world: PlantedWorld) -> "_Popularity":
        periods = max(1, min(settings.days, 40))
        length = settings.days / periods
        order = np.argsort(world.taste, kind="stable")
        now = (np.arange(periods) + 0.5)[:, None] * length
        age = now - world.born[order]
        fading = np.exp(-np.maximum(age, 0) / settings.fading_days)
        weight = np.where(age >= 0, world.popularity[order] * fading, 0.0)
        total = np.cumsum(weight)
        before = np.concatenate([[0.0], total])
        ends = np.searchsorted(world.taste[order], np.arange(settings.tastes + 1))
        bounds = before[np.arange(periods)[:, None] * settings.items + ends]
        return cls(order, bounds, total, length)

    def draw(self, random: np.random.Generator, taste: Array, day: Array) -> Array:
        """Draw an item for each taste and day, -1 where there is none yet, int64 `[n]`."""
        period = np.minimum((day / self.period_days).astype(np.int64), len(self.bounds) - 1)
        low, high = self.bounds[period, taste], self.bounds[period, taste + 1]
        at = np.searchsorted(self.total, low + random.random(len(day)) * (high - low), "right")
        item = self.order[np.minimum(at, len(self.total) - 1) % len(self.order)]
        return np.where(high > low, item, -1)

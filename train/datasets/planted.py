"""Interactions with a planted structure, drawn from a seed.

Every item belongs to one taste, and tastes come in families. A user draws from a few tastes, in
proportions that shift during the user's life; within a taste an item is drawn by its popularity, a
power law (Zipf) over the whole catalogue that fades with the item's age. Attributes tell the taste
only with a certain probability, so that attributes explain a part of it and histories the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from train.core.ragged import Array
from train.core.schema import Kind, Tables

ITEM_COLUMNS: dict[str, Kind] = {
    "category": "category",
    "tags": "categories",
    "length": "number",
    "year": "number",
    "premium": "flag",
    "description": "text",
}
USER_COLUMNS: dict[str, Kind] = {
    "segment": "category",
    "interests": "categories",
    "age": "number",
    "subscriber": "flag",
}
DAY = 86_400
_START = 1_577_836_800  # 2020-01-01, UTC
_TASTES_PER_USER = 3
_PROPORTIONS = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])  # early and late in a user's life
_CHUNK = 1_000_000  # interactions drawn at once: some 100 MB of temporaries
_ROUNDS = 40
_LAST = 0.1  # the share of the time, at its end, in which cold users and items first appear
_ADJECTIVES = ("amber", "basalt", "cedar", "delta", "ember", "fjord", "grove", "harbor", "iris")
_NOUNS = ("tale", "song", "map", "letter", "garden", "engine", "winter", "voyage", "mirror")


@dataclass(frozen=True)
class Plan:
    """Sizes of the generated data; see `train.datasets.generated.Generated` for each number."""

    users: int
    items: int
    interactions: int
    seed: int
    tastes: int
    days: int
    zipf: float
    fading_days: float
    told: float
    noise: float
    cold_users: float
    cold_items: float
    text_ids: bool
    embedding: int


@dataclass(frozen=True)
class World:
    """The planted truth: what nobody sees who only has the tables.

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


def generate(plan: Plan) -> Tables:
    """Generate the tables of a plan; the same plan gives the same tables.

    Raises:
        ValueError: so few users and items do not have so many different pairs.
    """
    random = np.random.default_rng(plan.seed)
    world = plant(plan, random)
    user, item, day = draw(plan, world, random)
    order = np.argsort(day, kind="stable")
    # Ids that are no indices, so that a mix-up of the two is seen.
    user_ids = _ids(random, plan.users, "u", plan.text_ids)
    item_ids = _ids(random, plan.items, "i", plan.text_ids)
    interactions = {
        "user_id": user_ids.take(pa.array(user[order])),
        "item_id": item_ids.take(pa.array(item[order])),
        "timestamp": (_START + day[order] * DAY).astype(np.int64),
        "weight": np.ones(len(order), np.float32),
    }
    embedding: dict[str, Kind] = {"image": "embedding"} if plan.embedding else {}
    return Tables(
        interactions=pa.table(interactions),
        items=pa.table({"item_id": item_ids} | _item_attributes(plan, world, random)),
        users=pa.table({"user_id": user_ids} | _user_attributes(plan, world, random)),
        item_columns=ITEM_COLUMNS | embedding,
        user_columns=USER_COLUMNS,
    )


def plant(plan: Plan, random: np.random.Generator) -> World:
    """Draw the truth of a plan."""
    rank = random.permutation(plan.items)
    activity = random.lognormal(0.0, 1.0, plan.users)
    return World(
        taste=random.permutation(plan.items) % plan.tastes,
        popularity=(rank + 10.0) ** -plan.zipf,
        born=_starts(random, plan.items, plan.cold_items, plan.days, old=0.5),
        user_tastes=_user_tastes(plan, random),
        activity=activity / activity.sum(),
        joined=_starts(random, plan.users, plan.cold_users, plan.days, old=0.3),
    )


def _starts(random: np.random.Generator, count: int, cold: float, days: int, old: float) -> Array:
    """Draw days of appearing: a share `old` from the beginning, a share `cold` only at the end."""
    late = days * (1 - _LAST)
    start = np.where(random.random(count) < old, 0.0, random.uniform(0, 0.8 * late, count))
    return np.where(random.random(count) < cold, random.uniform(late, days, count), start)


def _user_tastes(plan: Plan, random: np.random.Generator) -> Array:
    """Draw tastes: the first from a skewed distribution, the others mostly of the same family."""
    share = (np.arange(plan.tastes) + 3.0) ** -0.5
    first = random.choice(plan.tastes, plan.users, p=share / share.sum())
    near = (first[:, None] // 2 * 2 + random.integers(0, 2, (plan.users, 2))) % plan.tastes
    far = random.integers(0, plan.tastes, (plan.users, 2))
    others = np.where(random.random((plan.users, 2)) < 0.5, near, far)
    return np.column_stack([first, others])


def draw(plan: Plan, world: World, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw different pairs: user and item, int64 `[N]`, and the day of each, float64 `[N]`.

    Raises:
        ValueError: they cannot be found.
    """
    keys, days = np.empty(0, np.int64), np.empty(0)
    for chunk_keys, chunk_days in _chunks(plan, world, random):
        keys, days = np.append(keys, chunk_keys), np.append(days, chunk_days)
        if len(keys) < plan.interactions:
            continue
        _, first = np.unique(keys, return_index=True)
        first.sort()
        keys, days = keys[first][: plan.interactions], days[first][: plan.interactions]
        if len(keys) == plan.interactions:
            return keys // plan.items, keys % plan.items, days
    raise ValueError(
        f"expected {plan.interactions:,} different pairs of {plan.users:,} users and "
        f"{plan.items:,} items; found {len(keys):,}. Set fewer interactions, or more users or items"
    )


def _chunks(plan: Plan, world: World, random: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    popularity = _Popularity.of(plan, world)
    users = np.cumsum(world.activity)
    size = min(_CHUNK, plan.interactions)
    for _ in range(_ROUNDS * -(-plan.interactions // size)):
        user = np.minimum(users.searchsorted(random.random(size)), plan.users - 1)
        life = random.random(size)
        day = world.joined[user] + life * (plan.days - world.joined[user])
        taste = _tastes(plan, world, random, user, life)
        item = popularity.draw(random, taste, day)
        found = item >= 0
        yield (user * plan.items + item)[found], day[found]


def _tastes(
    plan: Plan, world: World, random: np.random.Generator, user: Array, life: Array
) -> Array:
    early = (random.random(len(user)) < life).astype(np.int64)
    bounds = np.cumsum(_PROPORTIONS, axis=1)[early]
    which = (random.random((len(user), 1)) > bounds[:, :-1]).sum(axis=1)
    own = world.user_tastes[user, which]
    any_taste = random.integers(0, plan.tastes, len(user))
    return np.where(random.random(len(user)) < plan.noise, any_taste, own)


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
    def of(cls, plan: Plan, world: World) -> "_Popularity":
        periods = max(1, min(plan.days, 40))
        length = plan.days / periods
        order = np.argsort(world.taste, kind="stable")
        now = (np.arange(periods) + 0.5)[:, None] * length
        age = now - world.born[order]
        fading = np.exp(-np.maximum(age, 0) / plan.fading_days)
        weight = np.where(age >= 0, world.popularity[order] * fading, 0.0)
        total = np.cumsum(weight)
        before = np.concatenate([[0.0], total])
        ends = np.searchsorted(world.taste[order], np.arange(plan.tastes + 1))
        bounds = before[np.arange(periods)[:, None] * plan.items + ends]
        return cls(order, bounds, total, length)

    def draw(self, random: np.random.Generator, taste: Array, day: Array) -> Array:
        """Draw an item for each taste and day, -1 where there is none yet, int64 `[n]`."""
        period = np.minimum((day / self.period_days).astype(np.int64), len(self.bounds) - 1)
        low, high = self.bounds[period, taste], self.bounds[period, taste + 1]
        at = np.searchsorted(self.total, low + random.random(len(day)) * (high - low), "right")
        item = self.order[np.minimum(at, len(self.total) - 1) % len(self.order)]
        return np.where(high > low, item, -1)


def _told(plan: Plan, random: np.random.Generator, truth: Array, kinds: int) -> Array:
    """Return the truth with probability `told`, else any of the kinds."""
    return np.where(
        random.random(len(truth)) < plan.told, truth, random.integers(0, kinds, len(truth))
    )


def _item_attributes(plan: Plan, world: World, random: np.random.Generator) -> dict[str, pa.Array]:
    families = (plan.tastes + 1) // 2
    family = _told(plan, random, world.taste // 2, families)
    told = _told(plan, random, world.taste, plan.tastes)
    noun = random.integers(0, len(_NOUNS), plan.items)
    number = pa.array(np.arange(1, plan.items + 1)).cast(pa.string())
    title = _joined(_name(told), pa.array(_NOUNS).take(pa.array(noun)), number)
    length = 60.0 + 10 * (world.taste % 7) + random.normal(0, 15, plan.items)
    columns = {
        "title": title,
        "category": _named("family", family),
        "tags": _lists("tag", told, random.integers(0, plan.tastes, plan.items)),
        "length": pa.array(length, pa.float32(), mask=random.random(plan.items) < 0.05),
        "year": pa.array(2020 - random.geometric(0.1, plan.items), pa.float32()),
        "premium": pa.array(random.random(plan.items) < 0.1 + 0.5 * (world.taste % 2)),
        "description": _joined(
            "one of the", _name(told), "kind, for", _name(family * 5 + 3), "days"
        ),
    }
    return columns | _image(plan, world, random)


def _image(plan: Plan, world: World, random: np.random.Generator) -> dict[str, pa.Array]:
    if not plan.embedding:
        return {}
    centres = random.normal(size=(plan.tastes, plan.embedding))
    noise = random.normal(size=(plan.items, plan.embedding)) / max(plan.told, 0.05)
    flat = (centres[world.taste] + noise).astype(np.float32).ravel()
    return {"image": pa.FixedSizeListArray.from_arrays(pa.array(flat), plan.embedding)}


def _user_attributes(plan: Plan, world: World, random: np.random.Generator) -> dict[str, pa.Array]:
    first, last = world.user_tastes[:, 0], world.user_tastes[:, -1]
    age = np.clip(20.0 + 3 * (first % 10) + random.normal(0, 8, plan.users), 14, 99)
    return {
        "segment": _named("family", _told(plan, random, first // 2, (plan.tastes + 1) // 2)),
        "interests": _lists("tag", *(_told(plan, random, t, plan.tastes) for t in (first, last))),
        "age": pa.array(age.round(), pa.float32(), mask=random.random(plan.users) < 0.05),
        "subscriber": pa.array(random.random(plan.users) < 0.2 + 0.4 * (first % 2)),
    }


def _ids(random: np.random.Generator, count: int, prefix: str, text: bool) -> pa.Array:
    numbers = pa.array(random.permutation(count) + 1, pa.int64())
    return pc.binary_join_element_wise(prefix, numbers.cast(pa.string()), "") if text else numbers


def _named(word: str, codes: Array) -> pa.Array:
    return pc.binary_join_element_wise(word, pa.array(codes).cast(pa.string()), " ")


def _name(codes: Array) -> pa.Array:
    """Return a word for each code; codes beyond the words get a number with it."""
    words = pa.array(_ADJECTIVES).take(pa.array(codes % len(_ADJECTIVES)))
    return pc.binary_join_element_wise(
        words, pa.array(codes // len(_ADJECTIVES)).cast(pa.string()), ""
    )


def _joined(*words: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*words, " ")


def _lists(word: str, *columns: Array) -> pa.Array:
    """Return for each row the list of the different names of its codes."""
    codes = np.sort(np.column_stack(columns), axis=1)
    kept = np.column_stack([np.ones(len(codes), bool), np.diff(codes, axis=1) > 0])
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _named(word, codes[kept]))

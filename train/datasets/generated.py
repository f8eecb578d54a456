"""The data set `generated`: synthetic interactions with a planted structure, for any size."""

from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from train.core.schema import Kind, Tables
from train.datasets.base import Dataset
from train.datasets.planted import draw, plant
from train.datasets.planted_attributes import (
    ITEM_COLUMNS,
    USER_COLUMNS,
    item_attributes,
    user_attributes,
)

DAY = 86_400  # seconds
START = 1_577_836_800  # 2020-01-01, UTC

Share = Annotated[float, Field(ge=0, le=1)]


class Generated(Dataset):
    """A generated data set with a planted structure, the same for the same settings.

    Attributes:
        users: number of users U; the cold ones may have no interaction at all.
        items: number of items I.
        interactions: number of interactions N, each of another pair.
        seed: of all that is drawn.
        tastes: number of latent tastes that items belong to and users have.
        days: length of the time that the interactions spread over.
        zipf: exponent of the power law of popularity; 0 makes all items alike.
        fading_days: days in which an item's popularity falls to 1/e.
        told: probability with which an attribute tells the taste.
        noise: share of interactions from a random taste.
        cold_users: share of users who appear only in the last tenth of the time.
        cold_items: the same for items.
        text_ids: ids like `u7` and `i42` instead of integers.
        embedding: width of an embedding column `image`; 0 for none.
    """

    name: Literal["generated"] = "generated"
    users: int = Field(default=1_000, ge=1)
    items: int = Field(default=500, ge=1)
    interactions: int = Field(default=30_000, ge=1)
    seed: int = Field(default=0, ge=0)
    tastes: int = Field(default=12, ge=1)
    days: int = Field(default=180, ge=1)
    zipf: float = Field(default=1.0, ge=0)
    fading_days: float = Field(default=90.0, gt=0)
    told: Share = 0.6
    noise: Share = 0.1
    cold_users: Share = 0.05
    cold_items: Share = 0.05
    text_ids: bool = False
    embedding: int = Field(default=0, ge=0)

    def read(self) -> Tables:
        """Generate the tables."""
        return generate(self)


def generate(settings: Generated) -> Tables:
    """Generate tables; equal settings give equal tables.

    Raises:
        ValueError: so few users and items do not have so many different pairs.
    """
    random = np.random.default_rng(settings.seed)
    world = plant(settings, random)
    user, item, day = draw(settings, world, random)
    order = np.argsort(day, kind="stable")
    # Ids that are no indices, so that a mix-up of the two is seen.
    user_ids = _ids(random, settings.users, "u", settings.text_ids)
    item_ids = _ids(random, settings.items, "i", settings.text_ids)
    interactions = {
        "user_id": user_ids.take(pa.array(user[order])),
        "item_id": item_ids.take(pa.array(item[order])),
        "timestamp": (START + day[order] * DAY).astype(np.int64),
        "weight": np.ones(len(order), np.float32),
    }
    embedding: dict[str, Kind] = {"image": "embedding"} if settings.embedding else {}
    return Tables(
        interactions=pa.table(interactions),
        items=pa.table({"item_id": item_ids} | item_attributes(settings, world, random)),
        users=pa.table({"user_id": user_ids} | user_attributes(settings, world, random)),
        item_columns=ITEM_COLUMNS | embedding,
        user_columns=USER_COLUMNS,
    )


def _ids(random: np.random.Generator, count: int, prefix: str, text: bool) -> pa.Array:
    numbers = pa.array(random.permutation(count) + 1, pa.int64())
    return pc.binary_join_element_wise(prefix, numbers.cast(pa.string()), "") if text else numbers

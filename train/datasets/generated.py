"""The data set `generated`."""

from typing import Annotated, Literal

from pydantic import Field

from train.core.schema import Tables
from train.datasets import planted as generated
from train.datasets.base import Dataset

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
        plan = self.model_dump(exclude={"name", "min_weight"})
        return generated.generate(generated.Plan(**plan))

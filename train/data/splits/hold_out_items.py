"""The split `hold_out_items`: some items have no interaction before the test."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.splits.base import TEST, TRAIN, VALIDATION, Quantile, Split, end_of


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
        t1, t2 = (end_of(interactions.timestamp[fold < f]) for f in (VALIDATION, TEST))
        return fold, t1, t2

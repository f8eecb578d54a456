"""Settings of `[evaluation]`."""

from typing import Annotated

from pydantic import Field

from train.baselines import BASELINES
from train.baselines.base import Baseline
from train.baselines.factorizations import ALS
from train.baselines.knn import ItemKNN
from train.baselines.linear import EASE
from train.baselines.popularity import Popularity, RecentPopularity
from train.core.settings import Settings, named_once, one_of


class Evaluation(Settings):
    """How a bundle is measured.

    Attributes:
        k: the cut of every metric.
        more_k: further cuts of recall and NDCG.
        recent_days: a recent window that is counted for features and, where its `days` cannot be
            picked, by the baseline `recent_popularity`.
        folds: cuts that the whole protocol is repeated at: the split's own, and for each more one
            that is earlier by the length of the test. Each is a fit of its own, without the final
            one; the report has mean and spread of every system.
        users: test users who are ranked for: a random sample of so many where there are more, the
            same one for all runs. The interval of a mean over 50,000 is a hundredth wide.
        resamples: of the bootstrap over users.
        baselines: systems to compare with, names or tables with a name; flags take names. What is
            not set of their sizes, penalties and windows is picked on the validation window.
    """

    k: int = Field(default=10, ge=1)
    more_k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    recent_days: int = Field(default=7, ge=1)
    folds: int = Field(default=1, ge=1)
    users: int = Field(default=50_000, ge=1)
    resamples: int = Field(default=2000, ge=100)
    baselines: Annotated[
        tuple[Annotated[Baseline, one_of("baseline", BASELINES)], ...], named_once("baseline")
    ] = (Popularity(), RecentPopularity(), ItemKNN(), EASE(), ALS())

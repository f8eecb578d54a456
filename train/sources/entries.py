"""Settings of candidate sources by name."""

from collections.abc import Mapping
from typing import Literal

from train.sources.base import SourceSettings
from train.sources.buy_again import BuyAgainSource
from train.sources.collaborative import (
    ALSSource,
    EASESource,
    ItemKNNSource,
    SLIMSource,
    SVDSource,
)
from train.sources.groups import CategoryPopularitySource, SegmentPopularitySource
from train.sources.new_items import NewItemsSource
from train.sources.popularity import PopularitySource, RecentPopularitySource, TrendingSource


class TowerSource(SourceSettings):
    """The towers of the run, searched by its index."""

    name: Literal["tower"] = "tower"


SOURCES: Mapping[str, type[SourceSettings]] = {
    "tower": TowerSource,
    "als": ALSSource,
    "svd": SVDSource,
    "ease": EASESource,
    "slim": SLIMSource,
    "itemknn": ItemKNNSource,
    "popularity": PopularitySource,
    "recent_popularity": RecentPopularitySource,
    "trending": TrendingSource,
    "category_popularity": CategoryPopularitySource,
    "segment_popularity": SegmentPopularitySource,
    "new_items": NewItemsSource,
    "buy_again": BuyAgainSource,
}

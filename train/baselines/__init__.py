"""Baselines by name."""

from collections.abc import Mapping

from train.baselines.base import Baseline
from train.baselines.buy_again import BuyAgain
from train.baselines.content_ridge import ContentRidge
from train.baselines.content_trees import CatBoostContent
from train.baselines.factorizations import ALS, SVD
from train.baselines.knn import ItemKNN, UserKNN
from train.baselines.linear import EASE, SLIM
from train.baselines.popularity import Popularity, RecentPopularity
from train.baselines.warp import WARP

BASELINES: Mapping[str, type[Baseline]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "itemknn": ItemKNN,
    "userknn": UserKNN,
    "svd": SVD,
    "als": ALS,
    "ease": EASE,
    "slim": SLIM,
    "warp": WARP,
    "catboost_content": CatBoostContent,
    "content_ridge": ContentRidge,
    "buy_again": BuyAgain,
}

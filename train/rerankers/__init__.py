"""Rerankers by name."""

from train.rerankers.base import RerankerSettings
from train.rerankers.blend import Blend
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.logit import Logit
from train.rerankers.mlp import MLP

RERANKERS: dict[str, type[RerankerSettings]] = {
    "catboost": CatBoost,
    "mlp": MLP,
    "logit": Logit,
    "blend": Blend,
}

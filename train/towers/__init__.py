"""Towers by name."""

from collections.abc import Mapping

from train.towers.base import Tower
from train.towers.dssm import DSSM
from train.towers.factorized import ALSTower, SVDTower, WARPTower
from train.towers.history_transformer import HistoryTransformer
from train.towers.hybrid import Hybrid
from train.towers.light_gcn import LightGCN
from train.towers.matching_mlp import MatchingMLP
from train.towers.ncf import NCF
from train.towers.two_tower import TwoTower

TOWERS: Mapping[str, type[Tower]] = {
    "two_tower": TwoTower,
    "hybrid": Hybrid,
    "dssm": DSSM,
    "history_transformer": HistoryTransformer,
    "light_gcn": LightGCN,
    "matching_mlp": MatchingMLP,
    "ncf": NCF,
    "svd": SVDTower,
    "als": ALSTower,
    "warp": WARPTower,
}

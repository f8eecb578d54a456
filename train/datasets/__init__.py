"""Data sets by name."""

from train.datasets.amazon import Amazon
from train.datasets.base import Dataset
from train.datasets.files import Files
from train.datasets.generated import Generated
from train.datasets.kion import Kion
from train.datasets.movielens import MovieLens1M, MovieLens20M, MovieLens100k

DATASETS: dict[str, type[Dataset]] = {
    "movielens-100k": MovieLens100k,
    "movielens-1m": MovieLens1M,
    "movielens-20m": MovieLens20M,
    "kion": Kion,
    "amazon": Amazon,
    "files": Files,
    "generated": Generated,
}

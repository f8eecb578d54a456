"""Opens the fitted reranker of a bundle."""

from pathlib import Path

from train.core.ragged import Array
from train.rerankers import RERANKERS
from train.rerankers.base import Reranker


def load(name: str, folder: Path, item_vectors: Array) -> Reranker:
    """Read the fitted reranker of that name from a folder.

    Raises:
        ValueError: there is no such reranker, or the file is missing or not this model's.
    """
    if name not in RERANKERS:
        raise ValueError(f"unknown reranker {name!r}; available: {', '.join(sorted(RERANKERS))}")
    return RERANKERS[name]().load(folder, item_vectors)

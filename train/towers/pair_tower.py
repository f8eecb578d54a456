"""Towers whose layers over both vectors score a pair, in the place of an inner product."""

from train.towers.base import Scores, Tower


class PairTower(Tower):
    """A tower with a `head` over pairs: no index fits, so retrieval scores the whole catalogue.

    Attributes:
        score: "pair".
    """

    name: str
    score: Scores = "pair"

    def check_score(self) -> None:
        """Raise ValueError for scores other than the head's."""
        if self.score != "pair" or self.normalize:
            raise ValueError(f"score: expected pair, and nothing to normalize, got {self.score!r}")
        if self.item_bias:
            raise ValueError("item_bias: expected false, for its layers add what they want")

    def check_vector_reader(self, reranker: str) -> None:
        """Refuse it: the head reads each element by itself, so a refit cannot be aligned."""
        raise ValueError(
            f"reranker {reranker!r} reads vectors, and those of tower {self.name!r} mean something "
            "else after every fit; set reranker to catboost or none"
        )

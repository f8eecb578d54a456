"""The reranker `blend`: a conditional logit over the scores of the candidate sources alone."""

from typing import Literal

from train.rerankers.logit import Logit
from train.rerankers.source_features import SOURCE

SCORES = ("retrieval_score", "linear_score")


class Blend(Logit):
    """A weight for each source's opinion, and for nothing else: linear stacking (Wolpert, 1992).

    What makes an item popular in one window does not in the next, while how far a source is to be
    trusted stays; so where the few users of a window are all that there is to learn from, this may
    beat a `logit` of all features.

    Attributes:
        features: names of the features that it reads; empty for the score of stage 1, the linear
            score where there is one, and each source's score, log-rank and whether it proposed
            the candidate.
    """

    name: Literal["blend"] = "blend"  # type: ignore[assignment]

    def read(self, feature_names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the features that it reads of those that candidates have."""
        return self.features or tuple(filter(_is_a_score, feature_names))


def _is_a_score(name: str) -> bool:
    by_source = name.startswith("source_") and name.endswith(SOURCE)
    return by_source or name in SCORES

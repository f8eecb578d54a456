"""A conditional logit: candidates are taken by a weighted sum of their features."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.rerankers.base import Given, Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows, log_importance
from train.rerankers.cross_validation import parted

FILE = "reranker.json"
FOLDS = 5


class Logit(RerankerSettings):
    """A weight for each feature, by a softmax over a query's candidates (McFadden, 1974).

    Of few queries it learns as much as there is to learn, where trees learn noise as well.

    Attributes:
        features: names of those that it reads; all, if none is given.
        l2: of the squared weights of features with deviation 1, over a loss that is summed over the
            queries. Each is tried, and one is chosen by the loss on other queries: in turn on each
            fifth of those given, and the weights are the mean of the five.
    """

    name: Literal["logit"] = "logit"
    features: tuple[str, ...] = ()
    l2: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 10.0, 100.0, 1000.0), min_length=1
    )

    def check(self, feature_names: tuple[str, ...]) -> None:
        """Check that candidates have the features."""
        unknown = [name for name in self.features if name not in feature_names]
        if unknown:
            hint = "; set linear_score.rank to have one" if "linear_score" in unknown else ""
            raise ValueError(
                f"reranker.features: candidates have no {', '.join(unknown)}{hint}; available: "
                f"{', '.join(feature_names)}"
            )

    def _fit(self, given: Given) -> Reranker:
        self.check(given.feature_names)
        names = self.features or given.feature_names
        columns = np.array([given.feature_names.index(name) for name in names])
        spread = given.pairs.features[:, columns].std(axis=0, dtype=np.float64)
        scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
        tried = [
            _chosen(_Rows.of(*own, columns, scale), _Rows.of(*other, columns, scale), self.l2)
            for own, other in parted(given, FOLDS)
        ]
        weights = np.mean(tried, axis=0) * scale
        return LinearReranker(names, columns, weights.astype(np.float32))

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.json`."""
        return LinearReranker.load(folder)


@dataclass(frozen=True)
class LinearReranker:
    """The weights of a sum.

    Attributes:
        features: names, F of them.
        columns: where they are among the features of candidates, int `[F]`.
        weights: float32 `[F]`.
    """

    features: tuple[str, ...]
    columns: Array
    weights: Array

    name: ClassVar[str] = "logit"

    def score(self, pairs: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`."""
        total = np.zeros(len(pairs.features), np.float32)
        # Column by column: a product rounds differently where a request comes with others.
        for column, weight in zip(self.columns, self.weights, strict=True):
            total += weight * pairs.features[:, column]
        return total

    def save(self, folder: Path) -> None:
        """Write `reranker.json`."""
        columns, weights = self.columns.tolist(), self.weights.tolist()
        table = {"features": list(self.features), "columns": columns, "weights": weights}
        (folder / FILE).write_text(json.dumps(table, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LinearReranker":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing or not this model's.
        """
        try:
            table = json.loads((folder / FILE).read_bytes())
            columns = np.array(table["columns"], dtype=np.int64)
            weights = np.array(table["weights"], dtype=np.float32)
            return cls(tuple(table["features"]), columns, weights)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / FILE} is not a logit's file: {error}") from error


@dataclass(frozen=True)
class _Rows:
    """What the loss of weights is computed from.

    Attributes:
        features: float64 `[R, F]`.
        offset: what is added to scores, float64 `[R]`; see `log_importance`.
        share: of the query's positives, float64 `[R]`.
        query: from 0, ascending, int64 `[R]`.
        starts: the first row of each query, int64 `[Q]`.
    """

    features: Array
    offset: Array
    share: Array
    query: Array
    starts: Array

    @classmethod
    def of(cls, pairs: CandidateRows, labels: Array, columns: Array, scale: Array) -> "_Rows":
        _, starts, query = np.unique(pairs.query, return_index=True, return_inverse=True)
        positives = np.bincount(query, labels)[query]
        share = labels / np.maximum(positives, 1)
        return cls(pairs.features[:, columns] * scale, log_importance(pairs), share, query, starts)

    def loss(self, weights: Array, l2: float = 0.0) -> tuple[float, Array]:
        """Return the summed cross-entropy of queries with a positive, and its slope `[F]`."""
        scores = self.features @ weights + self.offset
        highest = np.maximum.reduceat(scores, self.starts)
        exponents = np.exp(scores - highest[self.query])
        total = np.add.reduceat(exponents, self.starts)
        counted = np.add.reduceat(self.share, self.starts)
        entropy = counted @ (np.log(total) + highest) - self.share @ scores
        expected = exponents * (counted / total)[self.query]
        slope = (expected - self.share) @ self.features + l2 * weights
        return float(entropy + l2 / 2 * weights @ weights), slope


def _chosen(rows: _Rows, other: _Rows, penalties: Iterable[float]) -> Array:
    """Return the weights `[F]` of the penalty with the least loss on other rows."""
    from scipy.optimize import minimize

    tried = [np.zeros(rows.features.shape[1])]
    for l2 in sorted(penalties, reverse=True):  # each from the one before
        tried.append(minimize(rows.loss, tried[-1], (l2,), "L-BFGS-B", jac=True).x)
    return min(tried[1:], key=lambda weights: other.loss(weights)[0])

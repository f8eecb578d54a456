"""A conditional logit: candidates are taken by a weighted sum of their features."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from train.core.ragged import Array
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows, log_importance
from train.rerankers.cross_validation import training_and_evaluation
from train.rerankers.scaling import inverse_deviation
from train.rerankers.training_set import TrainingSet

FILE = "reranker.json"
FOLDS = 5


class Logit(RerankerSettings):
    """A weight for each feature, by a softmax over a request's candidates (McFadden, 1974).

    Of few requests it learns as much as there is to learn, where trees learn noise as well.

    Attributes:
        features: names of those that it reads; all, if none is given.
        l2: penalties of the squared weights of features with deviation 1, over a loss that is
            summed over the requests. Each is tried, and one is chosen by the loss on other
            requests: in turn on each fifth of those given, and the weights are the mean of the
            five.
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

    def _fit(
        self, training: TrainingSet, seed: int, threads: int, evaluation: TrainingSet | None
    ) -> Reranker:
        self.check(training.feature_names)
        names = self.features or training.feature_names
        columns = np.array([training.feature_names.index(name) for name in names])
        scale = inverse_deviation(training.rows.features[:, columns])

        def scaled(part: TrainingSet) -> _Groups:
            return _Groups.of(part, part.rows.features[:, columns] * scale)

        # One thread: products this small gain nothing from more, and the idle threads of NumPy's
        # and SciPy's two copies of BLAS spin between them, which takes ten times as long.
        with threadpool_limits(1, user_api="blas"):
            found = [
                _minimized(scaled(part), scaled(other), self.l2)
                for part, other in training_and_evaluation(training, evaluation, FOLDS, seed)
            ]
        weights = np.mean(found, axis=0) * scale
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

    def score(self, rows: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`."""
        total = np.zeros(len(rows.features), np.float32)
        # Column by column: a product rounds differently where a request comes with others.
        for column, weight in zip(self.columns, self.weights, strict=True):
            total += weight * rows.features[:, column]
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
class _Groups:
    """Inputs of the conditional logit's loss: rows in groups, one a request.

    Attributes:
        features: scaled, float64 `[R, F]`.
        offset: added to scores, see `log_importance`, `[R]`.
        share: of its request's positives, float64 `[R]`.
        group: of each row, from 0, ascending, int64 `[R]`.
        starts: the first row of each group, int64 `[Q]`.
    """

    features: Array
    offset: Array
    share: Array
    group: Array
    starts: Array

    @classmethod
    def of(cls, training: TrainingSet, features: Array) -> "_Groups":
        """Group a training set's rows, with their scaled features `[R, F]`."""
        _, starts, group = np.unique(training.rows.query, return_index=True, return_inverse=True)
        positives = np.bincount(group, training.labels)[group]
        share = training.labels / np.maximum(positives, 1)
        return cls(features, log_importance(training.rows), share, group, starts)

    def loss(self, weights: Array, l2: float = 0.0) -> tuple[float, Array]:
        """Return the summed cross-entropy of groups with a positive, and its gradient `[F]`."""
        scores = self.features @ weights + self.offset
        # Less the group's highest score, so that no exponential overflows.
        highest = np.maximum.reduceat(scores, self.starts)
        exponents = np.exp(scores - highest[self.group])
        total = np.add.reduceat(exponents, self.starts)
        counted = np.add.reduceat(self.share, self.starts)  # 1, or 0 for a group with no positive
        entropy = counted @ (np.log(total) + highest) - self.share @ scores
        expected = exponents * (counted / total)[self.group]
        gradient = (expected - self.share) @ self.features + l2 * weights
        return float(entropy + l2 / 2 * weights @ weights), gradient


def _minimized(training: _Groups, evaluation: _Groups, penalties: Iterable[float]) -> Array:
    """Return the weights `[F]` of the L2 penalty with the least loss on the evaluation's rows."""
    from scipy.optimize import minimize

    path = [np.zeros(training.features.shape[1])]
    # From the strongest on, each started from the one before, as regularization paths are.
    for l2 in sorted(penalties, reverse=True):
        path.append(minimize(training.loss, path[-1], (l2,), "L-BFGS-B", jac=True).x)
    return min(path[1:], key=lambda weights: evaluation.loss(weights)[0])

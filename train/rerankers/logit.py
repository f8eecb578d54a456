"""The reranker `logit`: a conditional logit, which scores by a weighted sum of features."""

import json
from collections.abc import Iterable, Sequence
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
# A penalty of 1e6 leaves weights a millionth as large as they should be.
LOG_SIZES = (-10.0, 20.0)


class Logit(RerankerSettings):
    """A weight for each feature, by a softmax over a request's candidates (McFadden, 1974).

    Of few requests it learns as much as there is to learn, where trees learn noise as well.

    Attributes:
        features: names of the features that it reads; empty for all.
        l2: penalties of the squared weights of features with deviation 1, over a loss that is
            summed over the requests. Each is tried without one fifth of the requests at a time,
            that with the highest NDCG@10 of these fifths is chosen, and the weights are the mean of
            its five fits. How large they are together, which orders nothing, is chosen by the loss
            of these fifths, so that a difference of scores is a logarithm of odds.
    """

    name: Literal["logit"] = "logit"
    # All of the usual 200 candidates: a weight a feature is fitted in seconds.
    negatives: int = Field(default=200, gt=0)
    features: tuple[str, ...] = ()
    l2: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 10.0, 100.0, 1e3, 1e4, 1e5), min_length=1
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

    def read(self, feature_names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the features that it reads of those that candidates have."""
        return self.features or feature_names

    def _fit(
        self, training: TrainingSet, seed: int, threads: int, evaluation: TrainingSet | None
    ) -> Reranker:
        self.check(training.feature_names)
        names = self.read(training.feature_names)
        columns = np.array([training.feature_names.index(name) for name in names])
        scale = inverse_deviation(training.rows.features[:, columns])

        def scaled(part: TrainingSet) -> _Groups:
            return _Groups.of(part, part.rows.features[:, columns] * scale)

        # One thread: products this small gain nothing from more, and the idle threads of NumPy's
        # and SciPy's two copies of BLAS spin between them, which takes ten times as long.
        with threadpool_limits(1, user_api="blas"):
            pairs = [
                (scaled(part), scaled(other))
                for part, other in training_and_evaluation(training, evaluation, FOLDS, seed)
            ]
            paths = [_path(part, self.l2) for part, _ in pairs]
            ndcg = [
                [other.ndcg(weights) for weights in path]
                for path, (_, other) in zip(paths, pairs, strict=True)
            ]
            # The first of equals, which is the stronger penalty.
            best = int(np.concatenate(ndcg, axis=1).mean(axis=1).argmax())
            chosen = [path[best] for path in paths]
            size = _size([(other, w) for (_, other), w in zip(pairs, chosen, strict=True)])
        weights = size * np.mean(chosen, axis=0) * scale
        return LinearReranker(names, columns, weights.astype(np.float32), self.name)

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.json`."""
        return LinearReranker.load(folder, self.name)


@dataclass(frozen=True)
class LinearReranker:
    """The weights of a sum.

    Attributes:
        features: names, F of them.
        columns: where they are among the features of candidates, int `[F]`.
        weights: float32 `[F]`.
        name: of the kind that it was fitted by.
    """

    features: tuple[str, ...]
    columns: Array
    weights: Array
    name: str = "logit"

    # A sum adds the same to all candidates of a request.
    reads_users: ClassVar[bool] = False
    measure: ClassVar[str] = "weight of one standard deviation of the feature"

    def importance(self, training: TrainingSet) -> dict[str, float]:
        """Return each weight times the deviation of its feature: differences of log-odds."""
        deviation = training.rows.features[:, self.columns].astype(np.float64).std(axis=0)
        return dict(zip(self.features, (self.weights * deviation).tolist(), strict=True))

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
    def load(cls, folder: Path, name: str = "logit") -> "LinearReranker":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing or not this model's.
        """
        try:
            table = json.loads((folder / FILE).read_bytes())
            columns = np.array(table["columns"], dtype=np.int64)
            weights = np.array(table["weights"], dtype=np.float32)
            return cls(tuple(table["features"]), columns, weights, name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / FILE} is not a {name}'s file: {error}") from error


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

    def ndcg(self, weights: Array, k: int = 10) -> Array:
        """Return the estimated NDCG@k of each group with a positive, float64.

        A candidate that was kept of several stands for all of them: the rank of a positive is
        estimated by the sum of the importance weights of what is above it.
        """
        scores = self.features @ weights
        order = np.lexsort((-scores, self.group))
        importance = np.exp(self.offset[order])
        above = np.cumsum(importance) - importance
        rank = above - above[self.starts][self.group]
        positive = self.share[order] > 0
        gain = np.where(positive & (rank < k), 1 / np.log2(rank + 2), 0)
        count = np.add.reduceat(self.share > 0, self.starts, dtype=np.int64)
        ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))[np.minimum(count, k) - 1]
        ndcg: Array = np.add.reduceat(gain, self.starts) / ideal
        return ndcg[count > 0]


def _path(training: _Groups, penalties: Iterable[float]) -> list[Array]:
    """Return the weights `[F]` of each L2 penalty, the strongest first."""
    from scipy.optimize import minimize

    path = [np.zeros(training.features.shape[1])]
    # Each started from the one before, as regularization paths are.
    for l2 in sorted(penalties, reverse=True):
        path.append(minimize(training.loss, path[-1], (l2,), "L-BFGS-B", jac=True).x)
    return path[1:]


def _size(held_out: Sequence[tuple[_Groups, Array]]) -> float:
    """Return the factor of the weights that has the least loss on requests not fitted on."""
    from scipy.optimize import minimize_scalar

    def loss(log_size: float) -> float:
        return sum(groups.loss(np.exp(log_size) * weights)[0] for groups, weights in held_out)

    return float(np.exp(minimize_scalar(loss, bounds=LOG_SIZES, method="bounded").x))

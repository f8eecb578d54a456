"""The reranker `catboost`: boosted trees with a ranking loss."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows, log_importance
from train.rerankers.training_set import TrainingSet


class CatBoost(RerankerSettings):
    """Boosted trees with a ranking loss over groups, one a request.

    The softmax over a request's candidates (ListNet; Cao et al., 2007) learns from few queries: on
    some hundred of them YetiRank is slower and gains a third as much.

    Attributes:
        loss: CatBoost's `loss_function`, a ranking loss over groups.
        iterations: trees, at most.
        depth: of each tree.
        learning_rate: weight of each tree.
        l2: penalty on the squared leaf values.
        patience: trees without a better NDCG@10 on held-out requests before fitting stops.
        leaf_steps: gradient steps for the values of a tree's leaves. CatBoost itself takes 100 for
            QuerySoftMax, which is five times as slow and ranks no better.
    """

    name: Literal["catboost"] = "catboost"
    loss: str = "QuerySoftMax"
    iterations: int = Field(default=200, gt=0)
    depth: int = Field(default=3, ge=1, le=10)
    learning_rate: float = Field(default=0.05, gt=0)
    l2: float = Field(default=3.0, ge=0)
    patience: int = Field(default=30, gt=0)
    leaf_steps: int = Field(default=5, gt=0)

    def _fit(
        self, training: TrainingSet, seed: int, threads: int, evaluation: TrainingSet | None
    ) -> Reranker:
        from catboost import CatBoost as Model

        model = Model(
            {
                "loss_function": self.loss,
                "eval_metric": "NDCG:top=10",
                "iterations": self.iterations,
                "depth": self.depth,
                "learning_rate": self.learning_rate,
                "l2_leaf_reg": self.l2,
                "leaf_estimation_iterations": self.leaf_steps,
                "random_seed": seed,
                "thread_count": threads,
                "allow_writing_files": False,
                "verbose": False,
            }
        )
        model.fit(
            self._pool(training),
            eval_set=None if evaluation is None else self._pool(evaluation),
            early_stopping_rounds=None if evaluation is None else self.patience,
        )
        return Trees(model)

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.cbm`."""
        return Trees.load(folder)

    def _pool(self, training: TrainingSet) -> Any:
        from catboost import Pool

        pool = Pool(
            training.rows.features,
            training.labels,
            group_id=training.rows.query,
            feature_names=list(training.feature_names),
        )
        if self.loss.startswith("QuerySoftMax"):
            pool.set_baseline(log_importance(training.rows))
        return pool


class Trees:
    """Boosted trees, scored by CatBoost's own evaluator in one thread."""

    name = "catboost"
    file = "reranker.cbm"
    reads_users = True
    measure = "share of the changes of the score, % (CatBoost's PredictionValuesChange)"

    def __init__(self, model: Any) -> None:
        self._model = model

    def score(self, rows: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`."""
        if not len(rows.features):
            return np.empty(0, dtype=np.float32)
        scores = self._model.predict(rows.features, thread_count=1)
        return np.asarray(scores, dtype=np.float32)

    def importance(self, training: TrainingSet) -> dict[str, float]:
        """Return CatBoost's own figures, which need no rows; they add up to 100."""
        figures = self._model.get_feature_importance(type="PredictionValuesChange")
        return dict(zip(training.feature_names, map(float, figures), strict=True))

    def save(self, folder: Path) -> None:
        """Write `reranker.cbm`, CatBoost's own format; equal models are equal bytes."""
        for key in ("train_finish_time", "model_guid"):
            self._model.get_metadata()[key] = ""
        self._model.save_model(str(folder / self.file))

    @classmethod
    def load(cls, folder: Path) -> "Trees":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing or not CatBoost's.
        """
        from catboost import CatBoost as Model
        from catboost import CatBoostError

        try:
            return cls(Model().load_model(str(folder / cls.file)))
        except CatBoostError as error:
            raise ValueError(f"{folder / cls.file} is not a CatBoost model: {error}") from error

"""Stage 2: models that order one query's candidates, fitted on what was taken of them later."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from train.candidates import Pairs, log_drawn
from train.intervals import bootstrap
from train.logit import Logit
from train.matching_mlp import MatchingMLP
from train.metrics import per_user
from train.ragged import Array, Ragged
from train.reranker import Given, Reranker, RerankerSettings, fold_of, parted


class CatBoost(RerankerSettings):
    """Boosted trees with a ranking loss over groups, one a query.

    The softmax over a query's candidates (ListNet; Cao et al., 2007) learns from few queries: on
    some hundred of them YetiRank is slower and gains a third as much.

    Attributes:
        loss: CatBoost's `loss_function`, a ranking loss over groups.
        iterations: trees, at most.
        depth: of each tree.
        learning_rate: weight of each tree.
        l2: penalty on the squared leaf values.
        patience: trees without a better NDCG@10 on held-out requests before fitting stops.
    """

    name: Literal["catboost"] = "catboost"
    loss: str = "QuerySoftMax"
    iterations: int = Field(default=200, gt=0)
    depth: int = Field(default=3, ge=1, le=10)
    learning_rate: float = Field(default=0.05, gt=0)
    l2: float = Field(default=3.0, ge=0)
    patience: int = Field(default=30, gt=0)

    def _fit(self, given: Given) -> Reranker:
        from catboost import CatBoost as Model

        model = Model(
            {
                "loss_function": self.loss,
                "eval_metric": "NDCG:top=10",
                "iterations": self.iterations,
                "depth": self.depth,
                "learning_rate": self.learning_rate,
                "l2_leaf_reg": self.l2,
                "random_seed": given.seed,
                "thread_count": given.threads,
                "allow_writing_files": False,
                "verbose": False,
            }
        )
        names = given.feature_names
        other = self._pool(*given.evaluation, names) if given.evaluation else None
        model.fit(
            self._pool(given.pairs, given.labels, names),
            eval_set=other,
            early_stopping_rounds=self.patience if other else None,
        )
        return Trees(model)

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.cbm`."""
        return Trees.load(folder)

    def _pool(self, pairs: Pairs, labels: Array, feature_names: tuple[str, ...]) -> Any:
        from catboost import Pool

        pool = Pool(pairs.features, labels, group_id=pairs.query, feature_names=list(feature_names))
        if self.loss.startswith("QuerySoftMax"):
            pool.set_baseline(log_drawn(pairs))
        return pool


class Trees:
    """Boosted trees, scored by CatBoost's own evaluator in one thread."""

    name = "catboost"
    file = "reranker.cbm"

    def __init__(self, model: Any) -> None:
        self._model = model

    def score(self, pairs: Pairs) -> Array:
        """Return a score for each row, float32 `[R]`."""
        if not len(pairs.features):
            return np.empty(0, dtype=np.float32)
        scores = self._model.predict(pairs.features, thread_count=1)
        return np.asarray(scores, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write `reranker.cbm`, CatBoost's own format."""
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


class MLP(RerankerSettings):
    """A perceptron of the pair's features and both vectors, with a softmax over the candidates.

    Attributes:
        hidden: widths of the two hidden layers.
        epochs: passes over the requests, at most.
        batch: requests a step.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        dropout: share of hidden units that are set to 0 in fitting.
        patience: epochs without a lower loss on held-out requests before fitting stops.
    """

    reads_vectors: ClassVar[bool] = True

    name: Literal["mlp"] = "mlp"
    hidden: tuple[int, int] = (256, 64)
    epochs: int = Field(default=30, gt=0)
    batch: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    patience: int = Field(default=5, gt=0)

    def _fit(self, given: Given) -> Reranker:
        from train.matching_fit import fit

        rows, other = next(parted(given, folds=10))
        return fit(*rows, given.item_vectors, self, given.seed, given.threads, other)

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read `reranker.safetensors`."""
        return MatchingMLP.load(folder, item_vectors)


RERANKERS: dict[str, type[RerankerSettings]] = {"catboost": CatBoost, "mlp": MLP, "logit": Logit}


def load(name: str, folder: Path, item_vectors: Array) -> Reranker:
    """Read the fitted reranker of that name from a folder.

    Raises:
        ValueError: there is no such reranker, or the file is missing or not this model's.
    """
    if name not in RERANKERS:
        raise ValueError(f"unknown reranker {name!r}; available: {', '.join(sorted(RERANKERS))}")
    return RERANKERS[name]().load(folder, item_vectors)


def cross_fit(
    settings: RerankerSettings,
    pairs: Pairs,
    labels: Array,
    item_vectors: Array,
    feature_names: tuple[str, ...],
    folds: int = 4,
    seed: int = 0,
    threads: int = 1,
) -> Array:
    """Return scores of every row, float32 `[R]`, each by a model fitted on other queries.

    Raises:
        ValueError: there are fewer queries than folds, or a fold's others hold no positive.
    """
    fold = fold_of(pairs.query, folds, seed)
    if len(np.unique(fold)) < folds:
        raise ValueError(f"{folds} folds need {folds} queries, got {len(np.unique(pairs.query))}")
    scores = np.empty(len(labels), dtype=np.float32)
    for held in range(folds):
        rest, own = fold != held, fold == held
        model = settings.fit(
            pairs.take(rest), labels[rest], item_vectors, feature_names, seed, threads
        )
        scores[own] = model.score(pairs.take(own))
    return scores


def earns(
    pairs: Pairs,
    labels: Array,
    scores: Array,
    relevant: Ragged | None = None,
    k: int = 10,
    seed: int = 0,
) -> dict[str, float | bool]:
    """Compare NDCG@k of `scores` with stage 1's order by a paired bootstrap over queries.

    Args:
        pairs: the rows, in stage 1's order.
        labels: 1 where the candidate was taken, `[R]`.
        scores: out of fold, `[R]`; see `cross_fit`.
        relevant: all that each of the `B` queries took; by default what its candidates hold.
        k: the cut.
        seed: of the bootstrap.

    Returns:
        `ndcg` and `ndcg_stage1` (means), `gain` (mean difference), `low` and `high` (the ends of
        its 95 % interval), `queries` (how many counted) and `earned`: whether `low` is above 0.
    """
    queries = len(pairs.user_vectors)
    if relevant is None:
        taken = labels > 0
        relevant = Ragged.from_pairs(pairs.query[taken], pairs.item[taken], queries)
    first = np.zeros(len(labels), dtype=np.float32)
    ndcg, ndcg_first = (
        per_user(ranked(pairs, order, k), relevant, k)["ndcg"] for order in (scores, first)
    )
    gain, low, high = bootstrap(ndcg - ndcg_first, seed=seed)
    counted = ~np.isnan(ndcg)
    return {
        "ndcg": float(ndcg[counted].mean()) if counted.any() else np.nan,
        "ndcg_stage1": float(ndcg_first[counted].mean()) if counted.any() else np.nan,
        "gain": gain,
        "low": low,
        "high": high,
        "queries": int(counted.sum()),
        "earned": bool(low > 0),
    }


def ranked(pairs: Pairs, scores: Array, k: int) -> Array:
    """Return the `k` best items of every query, int32 `[B, k]`, -1 padded.

    Equal scores stay in stage 1's order.
    """
    queries = len(pairs.user_vectors)
    order = np.lexsort((-scores, pairs.query))
    query = pairs.query[order]
    place = np.arange(len(query)) - np.searchsorted(query, np.arange(queries))[query]
    kept = place < k
    best = np.full((queries, k), -1, dtype=np.int32)
    best[query[kept], place[kept]] = pairs.item[order][kept]
    return best

"""Indexes over the vectors of the run's towers: a trial builds one and measures it."""

from collections.abc import Collection
from typing import Any

from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded
from train.data.splits.base import Folds
from train.index.build import build_vector_index
from train.steps import selected, stage_one
from tune.subjects.base import Subject, Values


def _vectors(run: Run, data: Encoded, folds: Folds, home: str) -> tuple[Array, Array, Array]:
    """Return queries `[Q, d]`, item vectors `[I, d]` and the catalogue `[I]` of the towers."""
    model, holdout = selected(home, run, data, folds)
    recommender = stage_one(run, data, holdout.known, model)
    if not recommender.index.tunable:
        raise ValueError(
            f"tower {run.tower.model_dump()['name']!r} scores every pair and has no index to tune; "
            "choose a tower whose score is dot, cosine or euclidean"
        )
    queries = recommender.user_vectors[holdout.users]
    return queries, recommender.item_vectors, recommender.catalogue


def _measure(
    shared: tuple[Array, Array, Array], run: Run, asked: Collection[str], *_: Any
) -> tuple[Values, Any]:
    queries, vectors, catalogue = shared
    found = build_vector_index(run.index, vectors, catalogue, run.seed, queries).report
    exact = found["used"] == "exact"
    recall = 1.0 if exact else found["recall"]
    return {"recall": recall, "microseconds": found["exact_us" if exact else "hnsw_us"]}, None


INDEX = Subject(
    name="index",
    keys=("index",),
    fixed=("index.sample",),
    metrics={"recall": "max", "microseconds": "min"},
    default=("recall", "microseconds"),
    prepare=_vectors,
    measure=_measure,
)

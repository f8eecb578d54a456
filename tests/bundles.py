"""Bundles made from planted vectors and histories, by the real classes, without any training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from train.bundle import bundle
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.core.top_k import top_k
from train.data.columns import Columns
from train.data.ids import IdMap
from train.data.linear_score import LinearScore
from train.data.statistics import DAY, Statistics
from train.index.base import IndexSettings
from train.index.build import build_vector_index
from train.index.candidates import Candidates, Queries
from train.index.vector_index import VectorIndex
from train.recommender.recommender import Recommender
from train.rerankers.base import Reranker
from train.rerankers.candidate_rows import candidate_rows
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.features import FeatureInputs, feature_names
from train.rerankers.training_set import TrainingSet

AS_OF = 1_700_000_000


def make_recommender(
    users: int = 300,
    items: int = 500,
    *,
    width: int = 16,
    history: int = 20,
    reranked: bool = True,
    trees: int = 20,
    depth: int = 4,
    linear_rank: int = 8,
    text_ids: bool = False,
    seed: int = 0,
) -> Recommender:
    """Return the parts of a bundle whose users like the items near them.

    Items whose index ends in 9 are not in the catalogue, and every seventh item has no title.
    """
    rng = np.random.default_rng(seed)
    user_vectors = rng.normal(size=(users, width)).astype(np.float32)
    item_vectors = rng.normal(size=(items, width)).astype(np.float32)
    interactions = _interactions(rng, user_vectors, item_vectors, history)
    statistics = Statistics.from_interactions(interactions, users, items, AS_OF)
    linear_score = LinearScore(rank=linear_rank, weighted=True).fit(interactions, users, items)
    catalogue = np.arange(items) % 10 != 9
    features = _features(rng, users), _features(rng, items)
    index = build_vector_index(IndexSettings(), item_vectors, catalogue, seed)
    histories = Ragged.from_pairs(interactions.user, interactions.item, users)
    settings = CatBoost(iterations=trees, depth=depth)
    known = FeatureInputs(item_vectors, features[1], features[0], statistics, linear_score)
    return Recommender(
        users=_ids(users, 1000, text_ids),
        items=_ids(items, 5, text_ids),
        titles=pa.array([None if i % 7 == 0 else f"Title {i}" for i in range(items)]),
        user_vectors=user_vectors,
        item_vectors=item_vectors,
        catalogue=catalogue,
        histories=histories,
        statistics=statistics,
        linear_score=linear_score,
        user_features=features[0],
        item_features=features[1],
        index=index,
        reranker=_reranker(rng, known, user_vectors, histories, index, settings)
        if reranked
        else None,
        columns=_columns(items),
    )


def write_bundle(folder: Path, earned: bool = True, **sizes: Any) -> Path:
    """Write a planted bundle below `folder` and return its own folder."""
    served = "both_stages" if earned else "stage_1"
    parts = dataclasses.replace(make_recommender(**sizes), served=served)
    facts = {"name": "planted", "config": {}, "metrics": {}, "reranker": {"earned": earned}}
    return folder / bundle.write(folder, parts, facts)


def write_tower_bundle(folder: Path, **sizes: Any) -> Path:
    """Write a bundle with the vectors of a two-tower model that was never trained."""
    import torch

    from train.data.snapshot import TowerInputs
    from train.towers.encode import encode_catalogue, encode_users
    from train.towers.two_tower import TwoTower
    from train.towers.weights import state_bytes

    parts = make_recommender(reranked=False, **sizes)
    torch.manual_seed(0)
    inputs = TowerInputs(
        parts.user_features,
        parts.item_features,
        parts.statistics.user_count > 0,
        parts.statistics.item_count > 0,
    )
    settings = TwoTower(width=16, history=8)
    model = settings.build(inputs)
    users = np.arange(len(parts.users))
    parts = dataclasses.replace(
        parts,
        user_vectors=encode_users(model, users, parts.histories),
        item_vectors=encode_catalogue(model),
    )
    parts = dataclasses.replace(
        parts, index=build_vector_index(IndexSettings(), parts.item_vectors, parts.catalogue)
    )
    facts = {"name": "tower", "config": {"tower": settings.model_dump(), "candidates": 40}}
    files = {bundle.TOWER: state_bytes(model)}
    return folder / bundle.write(folder, parts, facts, files)


def _columns(items: int) -> Columns:
    """Return columns that follow from an item's index: colours, tags, prices with gaps."""
    colours = ("red", "green", "blue")
    index = range(items)
    values = {
        "colour": pa.array([colours[i % 3] for i in index]),
        "tags": pa.array([[f"tag{d}" for d in (2, 3, 5) if i % d == 0] for i in index]),
        "price": pa.array([None if i % 10 == 3 else float(i % 40) for i in index], pa.float32()),
    }
    return Columns({"colour": "category", "tags": "categories", "price": "number"}, values)


def _ids(count: int, first: int, text: bool) -> IdMap:
    numbers = np.arange(first, first + count)
    return IdMap(pa.array([f"id-{n:07d}" for n in numbers] if text else numbers))


def _interactions(rng: Any, users: Array, items: Array, history: int) -> Interactions:
    """Each user takes `history` of a random tenth of the items: those nearest to its vector."""
    user = np.repeat(np.arange(len(users)), history)
    offered = rng.integers(0, len(items), size=(len(users), history * 3))
    scores = np.einsum("ud,uod->uo", users, items[offered])
    taken = np.take_along_axis(offered, top_k(scores, history)[0], axis=1)
    time = rng.integers(AS_OF - 60 * DAY, AS_OF, size=len(user))
    return Interactions.ordered(user, taken.ravel(), time, 1 + time % 5)


def _features(rng: Any, count: int) -> Features:
    colours = ("colour=blue", "colour=green", "colour=red")
    codes = rng.integers(0, len(colours), size=count)
    return Features(
        dense=rng.normal(size=(count, 2)).astype(np.float32),
        dense_names=("size", "weight"),
        categories=Ragged.from_pairs(np.arange(count), codes, count),
        vocabulary=colours,
    )


def _reranker(
    rng: Any,
    known: FeatureInputs,
    vectors: Array,
    histories: Ragged,
    index: VectorIndex,
    settings: CatBoost,
) -> Reranker:
    """Fit CatBoost to a planted preference: near items, and among these those of a high size."""
    chosen = np.sort(rng.choice(len(vectors), size=min(len(vectors), 200), replace=False))
    history = histories.take(chosen)
    queries = Queries(user=chosen.astype(np.int32), history=history, exclude=history)
    found = index.search(vectors[chosen], 50, history)
    rows = candidate_rows(known, queries, vectors[chosen], Candidates(*found))
    taste = known.item_features.dense[rows.item, 0] + rng.normal(size=len(rows.item))
    labels = (taste > 1.0).astype(np.float32)
    return settings.fit(TrainingSet(rows, labels, known.item_vectors, feature_names(known)))

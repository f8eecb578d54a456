"""Small data in files whose moments are known, runs over it in this process, and what they made.

Each user takes new items before T1, in the validation window [T1, T2) and in the test [T2, END);
each part is drawn by its own seed, so that any of them can be replaced by another one.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from train.bundle.bundle import Bundle, open_bundle
from train.config import Run
from train.core.ragged import Array
from train.fit import fit
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.training_set import TrainingSet

DAY = 86_400
START = 1_600_000_000
T1, T2, END = START + 60 * DAY, START + 80 * DAY, START + 100 * DAY
PARTS = ((START, T1), (T1, T2), (T2, END))
USERS, ITEMS, TASTES = 120, 72, 6
FIRST_USER, FIRST_ITEM = 1000, 5
CANDIDATES = 24

Events = dict[str, Array]
"""Columns `user`, `item` (indices), `time` and `weight`, in no order."""


def events(seeds: tuple[int, ...] = (1, 2, 3), counts: tuple[int, ...] = (8, 4, 3)) -> Events:
    """Return what users take in each part, mostly of their taste, never an item twice."""
    left, parts = np.ones((USERS, ITEMS), bool), []
    own = np.arange(USERS)[:, None] % TASTES == np.arange(ITEMS) % TASTES
    for seed, (since, until), count in zip(seeds, PARTS, counts, strict=True):
        random = np.random.default_rng(seed)
        wish = np.where(left, random.gumbel(size=own.shape) + 2.5 * own, -np.inf)
        item = np.argsort(-wish, axis=1)[:, :count]
        np.put_along_axis(left, item, False, axis=1)
        drawn = random.integers(since, until, item.shape), random.integers(1, 6, item.shape)
        parts.append((np.arange(USERS).repeat(count), item, *drawn))
    columns = (np.concatenate([np.ravel(part) for part in of]) for of in zip(*parts, strict=True))
    return dict(zip(("user", "item", "time", "weight"), columns, strict=True))


def some(of: Events, kept: Array) -> Events:
    """Return the events of a mask or of positions."""
    return {name: column[kept] for name, column in of.items()}


def joined(*several: Events) -> Events:
    """Return events one after the other."""
    return {name: np.concatenate([of[name] for of in several]) for name in several[0]}


def write(folder: Path, of: Events, cold: int = 0) -> Path:
    """Write the three tables into a folder; items and users are the same whatever the events.

    So many items are in none of the events.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "user_id": of["user"] + FIRST_USER,
        "item_id": of["item"] + FIRST_ITEM,
        "timestamp": of["time"],
        "rating": of["weight"].astype(np.float32),
    }
    items, users = np.arange(ITEMS + cold), np.arange(USERS)
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    kinds = pa.array([f"kind {taste}" for taste in items % 5])
    about = {"item_id": items + FIRST_ITEM, "kind": kinds, "length": np.sin(items)}
    pq.write_table(pa.table(about), folder / "items.parquet")
    ages = {"user_id": users + FIRST_USER, "age": np.cos(users)}
    pq.write_table(pa.table(ages), folder / "users.parquet")
    return folder


def data_table(folder: Path) -> dict[str, Any]:
    """Return the `[data]` of what `write` wrote."""
    return {
        "name": "files",
        "interactions": str(folder / "interactions.parquet"),
        "items": str(folder / "items.parquet"),
        "users": str(folder / "users.parquet"),
        "weight": "rating",
        "item_columns": {"kind": "category", "length": "number"},
        "user_columns": {"age": "number"},
    }


def make_run(data: Path, storage: Path, /, **changes: Any) -> Run:
    """Return a run of a second that is served as it is tested; every epoch is better than before.

    Keys of `changes` are those of the table; a table is laid over the one that is here.
    """
    table: dict[str, Any] = {
        "storage": str(storage),
        "page": False,
        "final_fit": "before_test",
        "candidates": CANDIDATES,
        "data": data_table(data),
        "split": {"name": "time", "at": T2, "validation_at": T1},
        "tower": {"name": "two_tower", "width": 8, "history": 6},
        "sources": ["tower"],
        "loss": {"name": "in_batch_softmax"},
        # With such a tolerance the last epoch is kept, whatever the validation window says.
        "train": {
            "workers": 0,
            "gpu": False,
            "threads": 1,
            "batch_size": 128,
            "epochs": 2,
            "patience": 9,
            "tolerance": 0.99,
            "learning_rate": 0.02,
            "weight_decay": 0.1,
        },
        # What is measured of time decides nothing.
        "index": {"kind": "exact", "recall_k": 10},
        "reranker": {"name": "catboost", "iterations": 5},
        "evaluation": {"resamples": 100, "baselines": ["popularity", "recent_popularity"]},
    }
    for key, value in changes.items():
        mine = table.get(key)
        if isinstance(value, dict) and isinstance(mine, dict):
            same = value.get("name", mine.get("name")) == mine.get("name")
            value = mine | value if same else value
        table[key] = value
    return Run.model_validate(table)


@dataclass(frozen=True)
class Made:
    """What a run made: its bundle, the weights of each phase, and its reranker's training set."""

    run: Run
    bundle: Bundle
    towers: dict[str, dict[str, Array]]
    training: TrainingSet | None

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the test."""
        found: dict[str, Any] = self.bundle.manifest["metrics"]
        return found


def made(run: Run) -> Made:
    """Fit a run and look at what it made."""
    fits: list[TrainingSet] = []
    of = RerankerSettings.fit

    def spied(self: RerankerSettings, training: TrainingSet, *rest: Any, **named: Any) -> Reranker:
        fits.append(training)
        return of(self, training, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RerankerSettings, "fit", spied)
        bundle = open_bundle(fit(run))
    home = Path(run.storage) / run.name
    # Others are fitted on a part, to be judged on what was left out.
    whole = max(fits, key=len, default=None)
    return Made(run, bundle, _towers(home), whole)


def _towers(home: Path) -> dict[str, dict[str, Array]]:
    files = {path.stem: path for path in (home / "training").glob("*.pt")}
    states = {phase: torch.load(path, weights_only=True) for phase, path in files.items()}
    return {
        phase: {name: weights.numpy() for name, weights in state["best"]["weights"].items()}
        for phase, state in states.items()
    }


def digests(of: Made) -> dict[str, str]:
    """Return a digest of each thing that a run made, without the times it took.

    `select`, `refit` and `final` are towers; `losses` and `validation` what select's epochs
    measured; `rows`, `described` and `labels` what the reranker learned of; `reranker` its scores
    of these and `judged` what it and each source earned, and with that what is served; `vectors`,
    `index`, `histories`, `statistics`, `linear`, `catalogue` and `features` are those of the
    bundle; `test` is who is tested on what; `popularity` and `recent_popularity` the means of these
    baselines, `stage_1` and `both_stages` of ours, `source_NAME` those of the sources where there
    are several, `intervals` those of all, `cuts` what there is at further cuts, `folds` at earlier
    ones in time.
    """
    bundle, curve = of.bundle, of.bundle.manifest["training"]["select"]
    systems = of.metrics["systems"]
    graph = [path.read_bytes() for path in sorted(bundle.folder.glob("index.hnsw"))]
    things: dict[str, Any] = {
        **of.towers,
        "losses": [row["loss"] for row in curve],
        "validation": [row["ndcg"] for row in curve],
        "vectors": [bundle.recommender.user_vectors, bundle.recommender.item_vectors],
        "index": [_without_times(bundle.manifest["index"]), graph],
        "histories": [bundle.recommender.histories.values, bundle.recommender.histories.offsets],
        "statistics": bundle.recommender.statistics.arrays(),
        "linear": bundle.recommender.linear_score.arrays(),
        "catalogue": bundle.recommender.catalogue,
        "features": [
            bundle.recommender.item_features.dense,
            bundle.recommender.user_features.dense,
        ],
        "data": bundle.manifest["data"]["sha256"],
        "judged": [bundle.manifest[name] for name in ("reranker", "gate", "contributions")],
        "test": of.metrics["test_sha256"],
        **{name: _means(metrics) for name, metrics in systems.items()},
        "intervals": {name: _ends(metrics) for name, metrics in systems.items()},
        "cuts": [of.metrics["more_k"], of.metrics["per_positive"]],
        "folds": of.metrics.get("folds"),
        "ceiling": of.metrics["recall@candidates"]["mean"],
    }
    if of.training is not None:
        rows = of.training.rows
        things["rows"] = [rows.query, rows.item, rows.user_vectors, of.training.item_vectors]
        things["described"] = [rows.features, list(of.training.feature_names)]
        things["labels"] = of.training.labels
        # CatBoost's file says when it was written.
        things["reranker"] = (
            [bundle.recommender.reranker.score(rows)] if bundle.recommender.reranker else []
        )
    return {name: digest(thing) for name, thing in things.items()}


def changed(one: Made, other: Made) -> set[str]:
    """Return which digests of two runs differ, or are there of only one of them."""
    first, second = digests(one), digests(other)
    return {name for name in first | second if first.get(name) != second.get(name)}


def digest(thing: Any) -> str:
    """Return a sha256 over arrays, bytes and plain values, however they are nested."""
    if isinstance(thing, dict):
        thing = [[name, digest(thing[name])] for name in sorted(thing)]
    if isinstance(thing, list):
        thing = json.dumps([digest(part) for part in thing])
    if isinstance(thing, np.ndarray):
        described = f"{thing.dtype} {thing.shape} ".encode()
        thing = described + np.ascontiguousarray(thing).tobytes()
    return sha256(thing if isinstance(thing, bytes) else repr(thing).encode()).hexdigest()


def _without_times(report: Any) -> dict[str, Any]:
    return {key: value for key, value in report.items() if not key.endswith("_us")}


def _means(metrics: Any) -> dict[str, float]:
    return {name: of["mean"] for name, of in metrics.items()}


def _ends(metrics: Any) -> dict[str, list[float]]:
    return {name: [of["low"], of["high"]] for name, of in metrics.items() if "low" in of}

"""Each setting of each entry of a choice has an effect on what is made by it.

Another value comes from the kind of a setting, or from the table of those that want a certain one.
So a new setting is tried as it is there, and one without an effect makes a test fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from tests.driver import (
    CANDIDATES,
    DAY,
    ITEMS,
    T1,
    T2,
    USERS,
    Events,
    digest,
    events,
    make_run,
    some,
    write,
)
from tests.training import FACTORIZED, exact_recommender, suiting
from train.baselines import BASELINES
from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.encoded import Encoded
from train.data.snapshot import Holdout, Snapshot
from train.data.splits import SPLITS
from train.data.splits.base import Split
from train.datasets.base import Dataset
from train.datasets.generated import Generated
from train.index import hnsw
from train.index.base import IndexSettings
from train.index.build import build_vector_index
from train.losses import LOSSES
from train.losses.base import Loss
from train.recommender.training_rows import sufficient_training_set
from train.rerankers import RERANKERS
from train.rerankers.base import RerankerSettings
from train.rerankers.training_set import TrainingSet
from train.steps import prepare, select_holdout
from train.towers import TOWERS
from train.towers.base import Tower
from train.towers.encode import encode_catalogue, encode_users
from train.towers.factorized import FIXED
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Training, Worker
from train.trainer.loop import train

Bases = Mapping[str, Mapping[str, Any]]
"""Settings by entry, or by `entry.key`, which two that differ at a key have both."""


def cases(entries: Mapping[str, type[BaseModel]]) -> Any:
    """Return a parameter set for each setting of each entry, but for its name."""
    return [
        pytest.param(entry, key, id=f"{entry}.{key}")
        for entry, kind in entries.items()
        for key in kind.model_fields
        if key != "name"
    ]


def another(value: Any, annotation: Any) -> Any:
    """Return another value of a setting of a kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 0.5 * value if value else 0.25
    if isinstance(value, str):
        return next(option for option in get_args(annotation) if option != value)
    raise AssertionError(f"say in this file what other value than {value!r} there is")


def based(bases: Bases, entry: str, key: str) -> dict[str, Any]:
    """Return what both settings have that differ at a key of an entry."""
    return {**bases.get(entry, {}), **bases.get(f"{entry}.{key}", {})}


def two(
    entries: Mapping[str, type[BaseModel]],
    entry: str,
    key: str,
    base: Mapping[str, Any],
    others: Mapping[str, Any],
) -> tuple[Any, Any]:
    """Return settings of an entry, and the same with another value at one key.

    `others` has values for `key` of any entry, or for `entry.key` of this one.
    """
    kind = entries[entry]
    first = kind.model_validate(base)
    value = others.get(f"{entry}.{key}", others.get(key))
    if value is None:
        value = another(getattr(first, key), kind.model_fields[key].annotation)
    assert value != getattr(first, key)
    return first, kind.model_validate({**base, key: value})


@dataclass(frozen=True)
class Known:
    """Data with some cold items, what was known of it before the window, and the window."""

    data: Encoded
    before: Snapshot
    window: Holdout


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder = tmp_path_factory.mktemp("entries")
    run = make_run(write(folder, events(), cold=4), folder)
    data, folds = prepare(run)
    holdout = select_holdout(run, data, folds)
    return Known(data, holdout.known, holdout)


def behaviour(job: Job, known: Snapshot) -> str:
    """Return a digest of the losses, and of the vectors of users, known or not, and of items."""
    state = train(job, Worker())
    model = job.tower.build(job.inputs)
    model.load_state_dict(state["best"]["weights"])
    users = np.arange(len(known.histories))
    vectors = [
        encode_users(model, users, known.histories),
        encode_users(model, np.full_like(users, -1), known.histories),
        encode_catalogue(model),
    ]
    return digest([[row.get("loss") for row in state["curve"]], *vectors])


def job(known: Snapshot, tower: Tower, loss: Loss | None = None) -> Job:
    training = Training(batch_size=128, epochs=2, learning_rate=0.02, context_length=5)
    loss = suiting(tower) if loss is None else loss
    return Job(tower, loss, training, 0, known.inputs, known.interactions)


PAIRS = ("score", "normalize", "item_bias")
REFUSED = {
    "matching_mlp": PAIRS,
    "ncf": PAIRS,
    "light_gcn": ("dropout",),
    **{name: tuple(FIXED) for name in FACTORIZED},
}
TOWER_BASE: Bases = {"dssm.heads": {"encoder": "transformer"}, "hybrid": {"hidden": (16, 8)}}
TOWER_OTHERS = {
    "width": 4,
    "history": 3,
    "score": "euclidean",
    "hidden": 12,
    "heads": 4,
    "hybrid.hidden": (12, 8),
    "dssm.score": "dot",
    "batch_size": 64,
}


@pytest.mark.parametrize(("entry", "key"), cases(TOWERS))
def test_a_setting_of_a_tower_changes_what_it_learns_or_encodes(
    entry: str, key: str, known: Known
) -> None:
    base = {"width": 8, **based(TOWER_BASE, entry, key)}
    if key in REFUSED.get(entry, ()):
        with pytest.raises(ValidationError, match=key):
            two(TOWERS, entry, key, base, TOWER_OTHERS)
        return
    first, other = two(TOWERS, entry, key, base, TOWER_OTHERS)
    assert behaviour(job(known.before, first), known.before) != behaviour(
        job(known.before, other), known.before
    )


@pytest.mark.parametrize("entry", TOWERS)
def test_the_same_settings_of_a_tower_change_nothing(entry: str, known: Known) -> None:
    tower = TOWERS[entry].model_validate({"width": 8})
    first, again = (behaviour(job(known.before, tower), known.before) for _ in range(2))
    assert first == again


LOSS_BASE = {"hard_pool": {"hard": 4}}
LOSS_OTHERS = {"hard_pool": 5, "sampling": "popularity", "cosine_contrastive.temperature": 0.5}


@pytest.mark.parametrize(("entry", "key"), cases(LOSSES))
def test_a_setting_of_a_loss_changes_what_is_learned(entry: str, key: str, known: Known) -> None:
    first, other = two(LOSSES, entry, key, LOSS_BASE.get(key, {}), LOSS_OTHERS)
    tower = TwoTower(width=8, history=5, normalize=entry == "cosine_contrastive")
    assert behaviour(job(known.before, tower, first), known.before) != behaviour(
        job(known.before, tower, other), known.before
    )


SPLIT_BASE: Bases = {
    "time": {"at": T2, "validation_at": T1},
    "time.quantile": {"at": None},
    "time.validation_quantile": {"validation_at": None},
    "auto": {"at": T2, "validation_at": T1},
    "auto.quantile": {"at": None},
    "auto.validation_quantile": {"validation_at": None},
    "last_days": {"days": 20.0, "validation_days": 20.0},
    "leave_last.warm_users": {"min_user_train": 8},
    "random.warm_users": {"min_user_train": 8},
    "random.warm_items": {"min_item_train": 14},
    "random.validation": {"validation": 0.4},
    "random.users": {"users": 0.2},
    "hold_out_items": {"test": 0.2, "validation": 0.2},
    "hold_out_items.warm_users": {"min_user_train": 8},
}
SPLIT_OTHERS = {
    "min_user_train": 8,
    "min_item_train": 14,
    "min_user_history": 8,
    "min_user_test": 2,
    "at": T2 - DAY,
    "validation_at": T1 - DAY,
    "quantile": 0.7,
}


@pytest.mark.parametrize(("entry", "key"), cases(SPLITS))
def test_a_setting_of_a_split_changes_what_trains_or_counts(entry: str, key: str) -> None:
    base = based(SPLIT_BASE, entry, key)
    settings = two(SPLITS, entry, key, base, SPLIT_OTHERS)
    of = uneven()
    ordered = Interactions.ordered(of["user"], of["item"], of["time"], of["weight"])
    first, other = (folds_of(split, ordered) for split in settings)
    assert first != other


def uneven() -> Events:
    """Return events of which users and items have different numbers, and some only the test."""
    of = events()
    early = of["time"] < T2
    cold = early & ((of["user"] < 4) | (of["item"] < 3))
    return some(of, ~cold & (np.random.default_rng(0).random(len(early)) < 0.7))


def folds_of(split: Split, interactions: Interactions) -> str:
    try:
        folds = split.folds(interactions, USERS, ITEMS)
    except ValueError as error:  # all are filtered out
        return str(error)
    return digest([folds.fold, folds.t1, folds.t2])


@pytest.fixture(scope="module")
def training(known: Known) -> TrainingSet:
    """Return a reranker's training set, of towers that are trained for two epochs."""
    tower = TwoTower(width=8, history=5)
    state = train(job(known.before, tower), Worker())
    model = tower.build(known.before.inputs)
    model.load_state_dict(state["best"]["weights"])
    users = encode_users(model, np.arange(USERS), known.before.histories)
    vectors = users, encode_catalogue(model)
    stage = exact_recommender(known.data, known.before, *vectors, candidates=CANDIDATES)
    return sufficient_training_set(stage, known.window)


RERANKER_BASE: Bases = {
    "catboost": {"iterations": 12, "negatives": 10},
    "catboost.patience": {"iterations": 60, "patience": 60, "learning_rate": 0.5},
    "mlp": {"epochs": 3, "hidden": (16, 8), "negatives": 10},
    "mlp.patience": {"epochs": 40, "patience": 40, "learning_rate": 0.5},
    "logit": {"negatives": 10},
    "blend": {"negatives": 10},
}
RERANKER_OTHERS = {
    "negatives": 5,
    "max_rows": 300,
    "hidden": (12, 8),
    "loss": "YetiRank",
    "patience": 1,
    "features": ("retrieval_score", "popularity"),
    "logit.l2": (5.0,),
    # Where there is one source, there is one feature, whose weight's size orders nothing.
    "blend.l2": (5.0,),
    # The best one on the other queries may come before the twelfth.
    "catboost.iterations": 1,
}


@pytest.mark.parametrize(("entry", "key"), cases(RERANKERS))
def test_a_setting_of_a_reranker_changes_its_scores(
    entry: str, key: str, training: TrainingSet
) -> None:
    base = based(RERANKER_BASE, entry, key)
    scores = [scored(kind, training) for kind in two(RERANKERS, entry, key, base, RERANKER_OTHERS)]
    assert (scores[0] != scores[1]).any()


@pytest.mark.parametrize("entry", RERANKERS)
def test_the_same_settings_of_a_reranker_change_nothing(entry: str, training: TrainingSet) -> None:
    settings = RERANKERS[entry].model_validate(RERANKER_BASE[entry])
    np.testing.assert_array_equal(scored(settings, training), scored(settings, training))


def scored(settings: RerankerSettings, training: TrainingSet) -> Array:
    """Return the scores of the rows, fitted on half of the queries and stopped by the others."""
    half = training.rows.query % 2 == 0
    fitted = settings.fit(training.take(half), evaluation=training.take(~half))
    return fitted.score(training.rows)


# What is None is picked on a holdout, or has a fallback: a value to differ from.
BASELINE_BASE: Bases = {
    "catboost_content": {"iterations": 20},
    "recent_popularity": {"days": 7},
    "itemknn": {"neighbours": 20},
    "userknn": {"neighbours": 20},
    "svd": {"rank": 5, "regularization": 0},
    "als": {"factors": 5, "regularization": 0.01, "alpha": 1},
    "ease": {"regularization": 100},
    "buy_again": {"half_life": 20.0},
}
BASELINE_OTHERS = {
    "neighbours": 3,
    "positive": 3.0,
    "depth": 2,
    "slim.tolerance": 0.1,
    "steps": 2,
    "batch_size": 64,
    "draws": 2,
}


@pytest.mark.parametrize(("entry", "key"), cases(BASELINES))
def test_a_setting_of_a_baseline_changes_its_scores(entry: str, key: str, known: Known) -> None:
    settings = two(BASELINES, entry, key, based(BASELINE_BASE, entry, key), BASELINE_OTHERS)
    users = np.arange(USERS)
    first, other = (baseline.fit(known.before, 7, 0)(users) for baseline in settings)
    assert (first != other).any()


GENERATED = {"users": 60, "items": 40, "interactions": 600}


@pytest.mark.parametrize(("entry", "key"), cases({"generated": Generated}))
def test_a_setting_of_generated_data_changes_them(entry: str, key: str) -> None:
    others = {"min_weight": 2.0, "cold_users": 0.3, "cold_items": 0.3}
    first, other = two({entry: Generated}, entry, key, GENERATED, others)
    assert content(first) == content(first) != content(other)


def content(data: Dataset) -> Any:
    try:
        tables = data.load()
    except ValueError as error:  # nothing is left
        return str(error)
    rows = [table.to_pylist() for table in (tables.interactions, tables.items, tables.users)]
    return [*rows, tables.ties]


INDEX_BASE = {"kind": "exact", "m": 4, "ef_construction": 16, "recall_k": 10, "sample": 200}
INDEX_OTHERS = {"kind": "hnsw", "recall": 0.5}


@pytest.mark.skipif(hnsw.library() is None, reason="needs hnswlib: these are of its graph")
@pytest.mark.parametrize(("entry", "key"), cases({"index": IndexSettings}))
def test_a_setting_of_an_index_changes_it_or_what_is_measured(entry: str, key: str) -> None:
    base = {**INDEX_BASE, **({"m": 32, "ef_construction": 200} if key == "kind" else {})}
    settings = two({entry: IndexSettings}, entry, key, base, INDEX_OTHERS)
    vectors = np.random.default_rng(0).normal(size=(1000, 24))
    reports = [build_vector_index(of, vectors, np.ones(1000, bool)).report for of in settings]
    first, other = ({k: v for k, v in of.items() if not k.endswith("_us")} for of in reports)
    assert first != other

"""Each setting of a run file changes what it names, and nothing else, in whole small runs.

What the entries of a choice have of their own (towers, losses, ...) is in `tests/contract`; here
are the settings that the driver hands on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.driver import DAY, T2, Made, changed, events, made, make_run, write
from train.config import Draft
from train.flags import CHOICES
from train.index import hnsw

# What follows from what, each with all that is made of it.
BOTH = {"both_stages", "intervals", "cuts"}
STAGE_2 = {"reranker", "judged", *BOTH}
ROWS = {"rows", "described", "labels", "ceiling", *STAGE_2}
STAGE_1 = {"vectors", "index", "stage_1", *ROWS}
REFIT = {"refit", "vectors", "index", "stage_1", "ceiling", *BOTH}
TOWERS = {"select", "losses", "validation", *REFIT, *STAGE_1}
BASELINES = {"popularity", "recent_popularity"}
MEASURED = {"stage_1", *BASELINES, *BOTH}
KNOWN = {"histories", "statistics", "catalogue", *TOWERS, *BASELINES, "test"}


@dataclass(frozen=True)
class Effect:
    """Another value of a setting, what has to differ then, and what else may.

    Attributes:
        value: other than by default and than in `base`.
        must: names of `tests.driver.digests`.
        may: of those, too.
        base: what both runs have beside what `make_run` gives them.
    """

    value: Any
    must: set[str]
    may: set[str] = field(default_factory=set)
    base: Mapping[str, Any] = field(default_factory=dict)


LEARNED = {"select", "refit", "losses", "vectors"}
SAMPLED = {"loss": {"name": "sampled_softmax", "count": 16}}
LINEAR = {"linear_score": {"rank": 4}}
# So slow that nothing gets better, nor worse.
STILL = {"train": {"learning_rate": 1e-12, "epochs": 4, "tolerance": 0.0}}
SEVERAL = ["tower", "itemknn", "ease"]
EFFECTS: dict[str, Effect] = {
    "name": Effect("another", set()),
    "storage": Effect(None, set()),
    "seed": Effect(7, LEARNED, TOWERS),
    "candidates": Effect(12, {"rows", "described", "labels", "reranker", "ceiling"}, ROWS),
    "catalogue": Effect("all", {"catalogue", "index"}, STAGE_1 | MEASURED | {"validation"}),
    "seen": Effect(
        "allow",
        {"rows", "described", "labels", "stage_1", "ceiling", *BASELINES},
        {"validation", *REFIT, *STAGE_1},
    ),
    "page": Effect(True, set()),
    "final_fit": Effect(
        "everything", {"final", "vectors", "histories", "statistics"}, {"index"}
    ),
    "data": Effect({"min_weight": 2.0}, {"data", "histories", "test", *LEARNED}, KNOWN),
    "split": Effect(
        {"at": T2 - 5 * DAY},
        {"histories", "statistics", "test", "refit"},
        KNOWN - {"select", "losses"},
    ),
    "tower": Effect({"width": 4}, LEARNED, TOWERS),
    "loss": Effect({"name": "bpr"}, LEARNED, TOWERS),
    # Which of them are kept, and so are systems of their own, is decided on the validation window.
    "sources": Effect(
        SEVERAL,
        {"rows", "described", "labels", "stage_1", "judged"},
        {f"source_{name}" for name in SEVERAL} | ROWS,
    ),
    "reranker": Effect({"iterations": 9}, {"reranker"}, STAGE_2),
    "train.examples": Effect("users", LEARNED, TOWERS, SAMPLED),
    "train.batch_size": Effect(64, LEARNED, TOWERS),
    "train.epochs": Effect(3, LEARNED, TOWERS),
    "train.epoch_examples": Effect(300, LEARNED, TOWERS),
    # The same draws again: what is learned is the same, and only what is validated differs.
    "train.validation_users": Effect(15, {"validation"}),
    "train.patience": Effect(1, {"losses", "validation"}, TOWERS, STILL),
    "train.tolerance": Effect(0.0, {"refit", "vectors"}, TOWERS - {"losses", "validation"},
        {"train": {"learning_rate": 2.0, "epochs": 5}}),
    "train.optimizer": Effect("rowwise_adam", LEARNED, TOWERS),
    "train.learning_rate": Effect(0.01, LEARNED, TOWERS),
    "train.weight_decay": Effect(2.0, LEARNED, TOWERS),
    "train.context": Effect("before", LEARNED, TOWERS),
    "train.context_length": Effect(2, LEARNED, TOWERS),
    "train.half_life": Effect(5.0, LEARNED, TOWERS),
    "train.weighted": Effect(True, LEARNED, TOWERS),
    "index.kind": Effect("hnsw", {"index"}, {"stage_1", *ROWS}),
    "index.m": Effect(2, {"index"}),
    "index.ef_construction": Effect(8, {"index"}),
    "index.recall_k": Effect(20, {"index"}),
    "linear_score.rank": Effect(8, {"linear", "described"}, STAGE_2, LINEAR),
    "linear_score.regularization": Effect(3.0, {"linear", "described"}, STAGE_2, LINEAR),
    "linear_score.discount": Effect(0.1, {"linear", "described"}, STAGE_2, LINEAR),
    "linear_score.weighted": Effect(True, {"linear", "described"}, STAGE_2, LINEAR),
    "evaluation.k": Effect(5, MEASURED),
    "evaluation.more_k": Effect((3, 20), {"cuts"}),
    # The baseline's own window is picked: tests/unit/test_baselines.py.
    "evaluation.recent_days": Effect(3, {"statistics", "described"}, STAGE_2),
    "evaluation.folds": Effect(2, {"folds"}),
    "evaluation.users": Effect(15, {"test", "stage_1", "intervals", "ceiling"}, MEASURED),
    "evaluation.resamples": Effect(200, {"intervals", "cuts"}),
    "evaluation.baselines": Effect(
        ["popularity", "itemknn"],
        {"itemknn", "recent_popularity", "intervals"},
        {"cuts"},
    ),
}  # fmt: skip
# Where else these are tested, for want of workers, of a GPU or of an effect on what is made.
ELSEWHERE = {
    "train.workers": "tests/integration/test_training.py",
    "train.gpu": "tests/gpu/test_training.py",
    "train.threads": "tests/unit/test_training_settings.py",
    "train.max_failures": "tests/integration/test_training.py",
    "train.wait": "tests/integration/test_two_machines.py",
    "train.checkpoint_minutes": "tests/contract/test_resume.py",
    "index.recall": "tests/unit/test_index.py",
    "index.sample": "tests/unit/test_index.py",
    "tracking": "tests/integration/test_identity.py",
}


def keys(settings: type[BaseModel], before: str = "") -> list[str]:
    """Return the keys of a run file but for those within an entry of a choice."""
    found = []
    for name, of in settings.model_fields.items():
        kind: Any = of.annotation
        table = isinstance(kind, type) and issubclass(kind, BaseModel) and name not in CHOICES
        found += keys(kind, f"{before}{name}.") if table else [before + name]
    return found


def test_every_setting_has_a_row() -> None:
    assert sorted(keys(Draft)) == sorted([*EFFECTS, *ELSEWHERE])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, Any]], Made]:
    """Return what runs once with changes; four items are cold."""
    folder = tmp_path_factory.mktemp("settings")
    data = write(folder / "data", events(), cold=4)

    ran: dict[str, Made] = {}

    def once(changes: Mapping[str, Any]) -> Made:
        key = repr(changes)
        if key not in ran:
            ran[key] = made(make_run(data, folder, **{"name": f"run{len(ran)}", **changes}))
        return ran[key]

    return once


def laid_over(base: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return changes with one more."""
    table, _, name = key.rpartition(".")
    if not table:
        return {**base, key: value}
    return {**base, table: {**base.get(table, {}), name: value}}


@pytest.mark.parametrize("key", EFFECTS)
def test_a_setting_changes_what_it_names_and_nothing_else(
    key: str, run: Callable[[Mapping[str, Any]], Made], tmp_path: Path
) -> None:
    if key.startswith("index.") and hnsw.library() is None:
        pytest.skip("needs hnswlib: this is of its graph")
    effect = EFFECTS[key]
    value = str(tmp_path) if key == "storage" else effect.value
    first, other = run(effect.base), run(laid_over(effect.base, key, value))
    found = changed(first, other)
    assert found >= effect.must
    assert found <= effect.must | effect.may
    page = Path(other.run.storage) / other.run.name / "report.html"
    assert page.exists() == (key == "page")

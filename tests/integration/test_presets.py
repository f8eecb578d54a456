"""Every preset in short: its towers, loss, baselines and stages on small generated data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.bundle.bundle import open_bundle
from train.config import Run
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.run_files import presets, read_run

DATA = {"name": "generated", "users": 150, "items": 80, "interactions": 3_000, "tastes": 6}
LESS = {"min_user_train": 2, "min_item_train": 2, "min_user_history": 2, "min_user_test": 1}
# A week of the generated time has too few of so few interactions to test on.
SPLITS: dict[str, dict[str, Any]] = {
    "time": {"at": None, "quantile": 0.8},
    "last_days": {"days": 30, "validation_days": 30},
    "leave_last": {},
    "auto": {},
}
TREES = {"iterations": 5}
BASELINES: dict[str, dict[str, Any]] = {"catboost_content": TREES, "warp": {"epochs": 1}}
RERANKERS: dict[str, dict[str, Any]] = {
    "none": {},
    "catboost": TREES,
    "mlp": {"epochs": 1},
    "logit": {},
    "blend": {},
}


def short(name: str, storage: Path) -> Run:
    """Return a preset as a run of a few seconds, in this process."""
    table = read_run(name).table()
    table |= {"storage": str(storage), "data": DATA, "candidates": 30, "page": False}
    table["split"] |= SPLITS[table["split"]["name"]] | LESS
    table["train"] |= {"workers": 0, "threads": 1, "epochs": 1}
    for reranker in table["reranker"].get("kinds", [table["reranker"]]):
        reranker.update(RERANKERS[reranker["name"]])
    for baseline in table["evaluation"]["baselines"]:
        baseline.update(BASELINES.get(baseline["name"], {}))
    table["evaluation"] |= {"resamples": 100}
    return Run.model_validate(table)


def test_what_is_cut_leaves_the_kinds_of_a_preset(tmp_path: Path) -> None:
    for name in presets():
        whole, run = read_run(name), short(name, tmp_path)
        assert run.tower == whole.tower
        assert run.loss == whole.loss
        assert type(run.split) is type(whole.split)
        assert type(run.reranker) is type(whole.reranker)
        assert [type(r) for r in run.rerankers()] == [type(r) for r in whole.rerankers()]
        assert run.sources == whole.sources
        assert [type(b) for b in run.evaluation.baselines] == [
            type(b) for b in whole.evaluation.baselines
        ]


@pytest.mark.parametrize("name", presets())
def test_a_preset_makes_a_bundle(name: str, tmp_path: Path) -> None:
    run = short(name, tmp_path)
    table = run.table()
    rerankers = [reranker.name for reranker in run.rerankers()]
    bundle = open_bundle(fit(run))
    systems = bundle.manifest["metrics"]["systems"]
    expected = [baseline["name"] for baseline in table["evaluation"]["baselines"]]
    kept = bundle.recommender.quotas if len(bundle.recommender.quotas) > 1 else ()
    stages = ["stage_1", "both_stages"] if rerankers else ["stage_1"]
    assert list(systems) == [*expected, *(f"source_{name}" for name in kept), *stages]
    assert bundle.manifest["reranker"].get("name", "none") in (rerankers or ["none"])
    assert set(bundle.manifest["contributions"]) == (
        {source.name for source in run.sources} if len(run.sources) > 1 else set()
    )
    known = int(np.flatnonzero(bundle.recommender.histories.lengths)[0])
    user = bundle.recommender.users.external(np.array([known]))[0]
    answer = recommend(bundle.recommender, [Request(user_id=user)])[0]
    assert answer["source"] == "personal"
    assert len({item["item_id"] for item in answer["items"]}) == 10

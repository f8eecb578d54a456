"""What a trial measures of rerankers and of sources is what a run of these settings has."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.training import exact_recommender, small
from tests.unit.test_training_rows import stage, window
from train.config import Run
from train.core.ragged import Array
from train.data.snapshot import Snapshot, snapshot, validation_holdout
from train.data.splits.base import TRAIN
from train.metrics.ranking import per_user
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.recommender.stage_two import fit_stage_two
from train.recommender.training_rows import training_set
from train.rerankers.training_set import TrainingSet
from train.sources.collaborative import ALSSource
from train.sources.entries import TowerSource
from train.trainer.job import Worker
from tune.subjects import SUBJECTS
from tune.subjects.sources import Stage

KINDS = [{"name": "logit", "l2": [10.0]}, {"name": "catboost", "iterations": 5}]


@cache
def rows() -> TrainingSet:
    return training_set(stage(), window())


def run(**changes: Any) -> Run:
    return Run.model_validate({"data": "generated", **changes})


def ndcg_of(reranker: Any) -> float:
    values, _ = SUBJECTS["reranker"].measure(
        rows(), run(reranker=reranker), ["ndcg"], Worker(), None
    )
    return values["ndcg"]


def test_a_choice_among_rerankers_is_measured_by_what_it_chooses() -> None:
    """As the gate of a run does, and not as a run without a reranker."""
    one, two = (ndcg_of(kind) for kind in KINDS)
    both = {"name": "auto", "kinds": KINDS}
    second = fit_stage_two(run(reranker=both).rerankers(), stage(), window(), seed=0, threads=1)
    assert ndcg_of(both) == {"logit": one, "catboost": two}[second.facts["name"]]
    ladder = {row["system"]: row["ndcg"] for row in second.gate["ladder"]}
    assert (one, two) == pytest.approx((ladder["logit"], ladder["catboost"]))
    assert ndcg_of("none") == pytest.approx(ladder["stage_1"])
    assert len({one, two, ladder["stage_1"]}) == 3
    users = SUBJECTS["reranker"].users
    assert users is not None
    assert np.nanmean(users(rows(), run(reranker=both), None)) == ndcg_of(both)


@cache
def before() -> Snapshot:
    data, folds = small()
    return snapshot(data, folds.fold == TRAIN, folds.t1, 7)


@cache
def shared() -> Stage:
    """Return random towers, and ALS with what was picked for it."""
    data, folds = small()
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, 4)).astype(np.float32) for n in (len(data.users), 80)]
    towers = exact_recommender(data, before(), *vectors, candidates=12, served="stage_1")
    picked = TowerSource(), ALSSource(factors=4, regularization=10.0, alpha=10.0, quota=3)
    return Stage(towers, validation_holdout(data, folds, before()), picked)


def measured(*sources: Any) -> dict[str, float]:
    wanted = ["recall", "ndcg", "milliseconds"]
    values, _ = SUBJECTS["sources"].measure(shared(), run(sources=sources), wanted, Worker(), None)
    return values


def recall(**changes: Any) -> Array:
    recommender, holdout = replace(shared().towers, **changes), shared().holdout
    queries = of_known_users(recommender, holdout.users)
    vectors = recommender.user_vectors[holdout.users]
    found = find_candidates(recommender, queries, vectors, np.full(len(vectors), 12))
    return np.asarray(per_user(found.items, holdout.relevant, 12)["recall"])


def test_candidates_are_those_of_a_run_with_these_sources_and_quotas() -> None:
    alone = measured("tower")
    assert alone["recall"] == pytest.approx(np.nanmean(recall()))
    assert alone["milliseconds"] > 0
    # What nobody set is what was picked for the run; a quota is as it is named.
    als = {"als": shared().picked[1].source(before(), 0)}
    for quota in (2, 12, None):
        expected = recall(sources=als, quotas={"tower": None, "als": quota})
        found = measured("tower", {"name": "als", "quota": quota})
        assert found["recall"] == pytest.approx(np.nanmean(expected))
    assert measured("tower", {"name": "als", "quota": 2}) != measured("tower", "als")
    more = measured("tower", {"name": "als", "factors": 8, "regularization": 10, "alpha": 10})
    assert more["recall"] != found["recall"]
    users = SUBJECTS["sources"].users
    assert users is not None
    both = users(shared(), run(sources=["tower", "als"]), None)
    assert np.nanmean(both) == pytest.approx(measured("tower", "als")["ndcg"])


def test_a_trial_reports_what_was_asked_for() -> None:
    values, _ = SUBJECTS["sources"].measure(
        shared(), run(sources=["tower"]), ["ndcg"], Worker(), None
    )
    assert list(values) == ["ndcg"]


def test_a_source_that_the_data_do_not_suit_fails_its_trial() -> None:
    with pytest.raises(ValueError, match="source buy_again cannot be fitted to these data"):
        SUBJECTS["sources"].measure(
            shared(), run(seen="allow", sources=["tower", "buy_again"]), ["recall"], Worker(), None
        )

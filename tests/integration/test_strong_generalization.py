"""Whole users are the test: known by the history of their request, learned from by nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.test_fit import make_run
from train.baselines import BASELINES
from train.baselines.base import asked_users
from train.bundle.bundle import Bundle, open_bundle
from train.config import Run
from train.core.ragged import Ragged
from train.data.snapshot import Holdout, held_out
from train.data.splits.base import TEST
from train.evaluate import measure
from train.fit import fit
from train.index.exact import rank_scores
from train.metrics.ranking import per_user
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.steps import fit_towers, prepare, refit_snapshot, select_holdout
from train.tracking.base import Tracker

NAMED = ["popularity", "itemknn", "ease", "als", "svd", "slim", "warp"]


def strong(place: Path, **changes: Any) -> Run:
    split = {"name": "random", "users": 0.2, "test": 0.3}
    base: dict[str, Any] = {
        "split": split,
        "final_fit": "before_test",
        "sources": ["tower", "ease", "als", "itemknn"],
        "reranker": "logit",
        "evaluation": {"resamples": 100, "baselines": NAMED},
    }
    return make_run(place, **(base | changes))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strong")


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return strong(place, name="strong")


@pytest.fixture(scope="module")
def test(run: Run) -> Holdout:
    data, folds = prepare(run)
    return held_out(data, folds, refit_snapshot(run, data, folds))


@pytest.fixture(scope="module")
def bundle(run: Run) -> Bundle:
    return open_bundle(fit(run))


def test_nothing_is_learned_from_those_who_are_tested(run: Run, test: Holdout) -> None:
    known, users = test.known, test.users
    assert 40 < len(users) < 80
    assert not np.isin(known.interactions.user, users).any()
    assert not known.inputs.warm_users[users].any()
    assert known.statistics.user_count[users].sum() == 0
    assert set(users) == set(asked_users(known))
    assert known.histories.lengths[users].min() > 0
    # What they had is no test, and what is tested they did not have.
    size = len(known.catalogue)
    had = known.histories.take(users)
    keys = had.rows * size + had.values
    assert not np.isin(test.relevant.rows * size + test.relevant.values, keys).any()


def test_other_users_of_the_test_change_no_tower(run: Run, place: Path) -> None:
    """Their interactions are exchanged for others, and the towers are the same."""
    data, folds = prepare(run)
    rng = np.random.default_rng(0)
    events, theirs = data.interactions, folds.asked(TEST) | (folds.fold == TEST)
    item = events.item.copy()
    item[theirs] = rng.integers(0, len(data.items), theirs.sum())
    other = replace(data, interactions=replace(events, item=item))
    weights = []
    for number, of in enumerate((data, other)):
        holdout, known = select_holdout(run, of, folds), refit_snapshot(run, of, folds)
        phases = {"select": holdout.known, "refit": known}
        towers = fit_towers(str(place / str(number)), run, phases, holdout, Tracker())
        weights.append({n: w.numpy() for n, w in towers["refit"].model.state_dict().items()})
    for name, values in weights[0].items():
        np.testing.assert_array_equal(values, weights[1][name])


@pytest.mark.parametrize("name", [name for name in NAMED if name != "popularity"])
def test_a_baseline_folds_in_histories(name: str, test: Holdout) -> None:
    known = test.known
    score = BASELINES[name].model_validate({}).fit(known, 7, 0)

    def ndcg(of: Holdout) -> float:
        ranked = rank_scores(score, of.users, known.catalogue, of.excluded, 10)
        return float(per_user(ranked, of.relevant, 10)["ndcg"].mean())

    popular = BASELINES["popularity"].model_validate({}).fit(known, 7, 0)
    by_count = rank_scores(popular, test.users, known.catalogue, test.excluded, 10)
    # Another user's history says less than one's own, and one's own more than what is popular.
    shifted = replace(test, relevant=test.relevant.take(np.roll(np.arange(len(test.users)), 1)))
    assert ndcg(test) > ndcg(shifted)
    if name != "warp":
        assert ndcg(test) > per_user(by_count, test.relevant, 10)["ndcg"].mean()


@pytest.mark.parametrize("name", ["itemknn", "ease", "svd", "slim"])
def test_a_user_who_is_folded_in_scores_as_one_who_was_learned_from(
    name: str, test: Holdout
) -> None:
    """These score by the history alone: a learned user's history as a request gives the same."""
    known = test.known
    warm = int(np.flatnonzero(known.inputs.warm_users)[3])
    asked = int(test.users[0])
    history = known.histories.take(np.array([warm]))
    rows = [known.histories.take(np.array([n])).values for n in range(len(known.histories))]
    rows[asked] = history.values
    exchanged = replace(known, histories=Ragged.from_rows([row.tolist() for row in rows]))
    score = BASELINES[name].model_validate({}).fit(exchanged, 7, 0)
    ours, theirs = score(np.array([asked, warm]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_every_system_knows_the_users_of_the_test(bundle: Bundle) -> None:
    systems = bundle.manifest["metrics"]["systems"]
    popular = systems["popularity"]["ndcg"]["mean"]
    for name in ("itemknn", "ease", "als", "svd", "stage_1", "both_stages"):
        assert systems[name]["ndcg"]["mean"] > popular, name
    assert bundle.manifest["config"]["split"]["users"] == 0.2
    assert measure(bundle)["systems"] == systems


def test_they_are_answered_as_if_they_sent_their_history(bundle: Bundle, test: Holdout) -> None:
    recommender = bundle.recommender
    ids = recommender.users.external(test.users[:12])
    rows = [recommender.histories.take(np.array([user])).values for user in test.users[:12]]
    known = recommend(recommender, [Request(user_id=one) for one in ids])
    sent = recommend(
        recommender, [Request(history=recommender.items.external(row)) for row in rows]
    )
    same = [
        len({e["item_id"] for e in one["items"]} & {e["item_id"] for e in other["items"]})
        for one, other in zip(known, sent, strict=True)
    ]
    # They have attributes of their own, which one who sends a history alone has not.
    assert np.mean(same) > 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seen": "allow"}, 'expected seen = "exclude", got .allow'),
        ({"tower": {"name": "two_tower", "history": 0}}, "expected a tower.history of 1"),
        ({"evaluation": {"baselines": ["userknn"]}}, "and userknn cannot fold in a history"),
    ],
)
def test_what_knows_nothing_of_them_is_refused(
    changes: dict[str, Any], message: str, place: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(strong(place, **changes))

"""Factorizations as towers: they rank as the baselines do, and fold in whom these do not know."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import ValidationError

from cluster.cli import explain
from tests.training import FACTORIZED, before, histories, make_job, validation
from train.baselines import BASELINES
from train.baselines.factorizations import ALS, SVD, Factorization
from train.baselines.warp import WARP
from train.config import Run
from train.core.ragged import Array, Ragged
from train.index.exact import rank_catalogue, rank_scores
from train.towers import TOWERS, factorized
from train.towers.encode import align, encode_catalogue, encode_users
from train.towers.factorized import Factorized, FoldIn
from train.towers.model import TwoTowerModel
from train.trainer.checkpoint import checkpoint_bytes, read_checkpoint
from train.trainer.job import Worker
from train.trainer.loop import train

ALPHAS = [0.5, 1.0, 8.0]


@pytest.fixture(params=FACTORIZED)
def tower(request: pytest.FixtureRequest) -> Factorized:
    return FACTORIZED[request.param].model_validate({"width": 6, "history": 10})


def fitted(tower: Factorized) -> TwoTowerModel:
    model = tower.build(before().inputs)
    model.load_state_dict(train(make_job(tower=tower), Worker())["model"])
    return model.eval()


def everyone(model: TwoTowerModel) -> Array:
    known = before().histories
    return encode_users(model, np.arange(len(known)), known)


def warm_users() -> Array:
    return np.flatnonzero(before().inputs.warm_users)


def test_every_baseline_with_vectors_is_a_tower_of_its_name() -> None:
    named = {name for name, of in BASELINES.items() if issubclass(of, Factorization)}
    assert named == FACTORIZED.keys() == {"svd", "als", "warp"}
    for name, entry in FACTORIZED.items():
        assert TOWERS[name] is entry
        assert getattr(factorized, entry.__name__) is entry
        # A tower's settings are set: nothing of its baseline is left to be picked.
        baseline = entry.model_validate({}).baseline()
        assert type(baseline) is BASELINES[name]
        assert baseline == baseline.settled()


def test_it_ranks_as_the_baseline(tower: Factorized) -> None:
    """For users with more and with fewer items than the history it reads."""
    known, users = before(), warm_users()
    lengths = known.histories.lengths[users]
    assert lengths.min() < tower.history < lengths.max()
    model, seen = fitted(tower), known.histories.take(users)
    score = tower.baseline().fit(known, 7, 0)
    items = encode_catalogue(model)
    np.testing.assert_allclose(everyone(model)[users] @ items.T, score(users), atol=1e-5)
    ours = rank_catalogue(everyone(model)[users], items, known.catalogue, seen, 10)
    theirs = rank_scores(score, users, known.catalogue, seen, 10)
    assert (ours == theirs).mean() > 0.999


def test_whoever_is_cold_has_no_vector(tower: Factorized) -> None:
    known = before()
    job = make_job(tower=tower)
    users, items = known.inputs.warm_users.copy(), known.inputs.warm_items.copy()
    users[5], items[7] = False, False
    inputs = type(known.inputs)(
        known.inputs.user_features, known.inputs.item_features, users, items
    )
    kept = (known.interactions.user != 5) & (known.interactions.item != 7)
    model = tower.build(inputs)
    tower.fit(model, inputs, job.interactions.take(kept), 0)
    assert not encode_catalogue(model)[7].any()
    assert not encode_users(model, np.array([5]), Ragged.empty(1)).any()
    # And it says nothing of somebody's taste, nor does an item for the second time.
    some, more = histories([[3, 4]]), histories([[4, 7, 3, 4]])
    np.testing.assert_allclose(
        encode_users(model, np.array([-1]), some),
        encode_users(model, np.array([-1]), more),
        atol=1e-6,
    )


def test_an_svd_projects_an_unknown_user_to_where_a_known_one_is() -> None:
    tower = FACTORIZED["svd"].model_validate({"width": 6, "history": 1000})
    model, users = fitted(tower), warm_users()
    stranger = np.full(len(users), -1)
    found = encode_users(model, stranger, before().histories.take(users))
    np.testing.assert_allclose(found, everyone(model)[users], atol=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_als_solves_for_an_unknown_user_as_implicit_does(alpha: float) -> None:
    drawn = np.random.default_rng(0).random((600, 40)) < 0.2
    taken = scipy.sparse.csr_matrix(drawn.astype(np.float32))
    als = ALS(factors=7, alpha=alpha, regularization=0.3, iterations=4)
    users, items = als.factorize(taken, 0)
    model = AlternatingLeastSquares(7, regularization=0.3, alpha=alpha)
    model.user_factors, model.item_factors = users, items
    expected = model.recalculate_user(np.arange(600), taken)
    rows = Ragged(taken.indices.astype(np.int32), taken.indptr.astype(np.int64))
    history = torch.tensor(rows.last(30)).long()
    fold = FoldIn(als, 7)
    fold.folding = als.folding(items)
    found = fold(torch.tensor(items), history.clamp(min=0), history >= 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found.numpy() - users).max() > 1e-3


@pytest.mark.parametrize("alpha", ALPHAS)
def test_als_knows_a_stranger_by_the_history(alpha: float) -> None:
    table = {"width": 6, "alpha": alpha, "history": 1000}
    model, users = fitted(FACTORIZED["als"].model_validate(table)), warm_users()
    found = encode_users(model, np.full(len(users), -1), before().histories.take(users))
    own = everyone(model)[users]
    cosine = (found * own).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(own, axis=1)
    assert np.median(cosine) > 0.99


def test_warp_takes_the_mean_and_every_bias() -> None:
    model = fitted(FACTORIZED["warp"].model_validate({"width": 6}))
    items = encode_catalogue(model)
    taken = np.flatnonzero(before().inputs.warm_items)[:2]
    found = encode_users(model, np.array([-1, -1]), Ragged.from_rows([taken, []]))
    np.testing.assert_allclose(found[0], [*items[taken, :-1].mean(axis=0), 1], atol=1e-6)
    assert not found[1].any()
    np.testing.assert_allclose(everyone(model)[warm_users(), -1], 1, atol=1e-6)


def test_a_known_user_is_moved_by_new_items(tower: Factorized) -> None:
    """From the vector of the baseline, by the difference that they make to a fold-in."""
    model, user = fitted(tower), int(warm_users()[0])
    old = before().histories.take(np.array([user]))
    new = old.join(histories([[1, 2, 3]]))
    own = encode_users(model, np.array([user, user]), Ragged.from_rows([old.values, new.values]))
    folded = encode_users(model, np.array([-1, -1]), Ragged.from_rows([old.values, new.values]))
    np.testing.assert_allclose(own[0], everyone(model)[user], atol=1e-5)
    np.testing.assert_allclose(own[1] - own[0], folded[1] - folded[0], atol=1e-5)
    assert np.abs(own[1] - own[0]).max() > 1e-3


def test_aligned_to_an_earlier_fit_it_ranks_as_before(tower: Factorized) -> None:
    known, model = before(), fitted(tower)
    reference = encode_catalogue(model) @ np.linalg.qr(np.vander(np.arange(6.0) / 6))[0]
    scores = everyone(model) @ encode_catalogue(model).T
    align(model, reference.astype(np.float32), known.inputs.warm_items)
    np.testing.assert_allclose(encode_catalogue(model), reference, atol=1e-4)
    np.testing.assert_allclose(everyone(model) @ encode_catalogue(model).T, scores, atol=1e-4)


def test_training_is_one_epoch_with_its_ndcg_and_goes_on_from_there(tower: Factorized) -> None:
    told: list[tuple[dict[str, Any], Any]] = []
    job = make_job(tower=tower, epochs=5, validation=validation())
    state = train(job, Worker(report=lambda *epoch: told.append(epoch)))
    assert [row for row, _ in told] == state["curve"]
    [row] = state["curve"]
    assert row.keys() == {"epoch", "seconds", "ndcg"}
    assert row["epoch"] == state["best"]["epoch"] == 1
    assert row["ndcg"] == state["best"]["ndcg"]
    assert row["ndcg"] > 0
    kept = read_checkpoint(checkpoint_bytes(state))
    again = train(job, Worker(report=lambda *epoch: told.append(epoch)), kept)
    assert len(told) == 1
    assert again["curve"] == state["curve"]
    assert all(torch.equal(again["model"][name], state["model"][name]) for name in state["model"])


def test_without_a_history_only_known_users_have_a_vector(tower: Factorized) -> None:
    model = fitted(tower.model_copy(update={"history": 0}))
    score = tower.baseline().fit(before(), 7, 0)
    users = warm_users()
    scores = everyone(model)[users] @ encode_catalogue(model).T
    np.testing.assert_allclose(scores, score(users), atol=1e-5)
    assert not encode_users(model, np.array([-1]), histories([[3, 4]])).any()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "als", "factors": 8}, "unknown key 'factors'"),
        ({"name": "als", "score": "cosine"}, "score: expected dot, for als learns a vector"),
        ({"name": "svd", "item_attributes": True}, "item_attributes: expected False, for svd"),
        ({"name": "warp", "width": 1}, "greater than or equal to 2"),
        ({"name": "als", "alpha": 0}, "greater than 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_it_does_not_have_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Run.model_validate({"data": {"name": "generated"}, "tower": table})
    assert message in explain(caught.value)


def test_what_nobody_took_cannot_be_in_its_catalogue(tower: Factorized) -> None:
    table = {"data": {"name": "generated"}, "tower": tower, "catalogue": "all"}
    with pytest.raises(ValueError, match="all look the same; set catalogue to warm"):
        Run.model_validate(table)


def test_the_widths_are_those_of_the_baselines() -> None:
    expected = {
        "svd": SVD(rank=9, regularization=0),
        "als": ALS(factors=9, regularization=0.01, alpha=1),
        "warp": WARP(factors=8),
    }
    for name, baseline in expected.items():
        assert FACTORIZED[name].model_validate({"width": 9}).baseline() == baseline


def test_too_few_items_for_an_svd_name_the_setting() -> None:
    tower = FACTORIZED["svd"].model_validate({"width": 81})
    with pytest.raises(ValueError, match=r"found 70; lower its rank: that is tower\.width"):
        tower.check(70, before().inputs.item_features)


def test_any_loss_may_stand_beside_it(tower: Factorized) -> None:
    table = {"data": {"name": "generated"}, "tower": tower, "loss": "cosine_contrastive"}
    assert Run.model_validate(table).loss.needs(tower.scores)

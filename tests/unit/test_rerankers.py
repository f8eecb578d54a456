"""Ordering, folds, and whether a reranker earns its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.planted_candidates import ITEMS, NAMES, WIDTH, planted
from train.core.ragged import Array, Ragged
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.rerankers.base import Reranker
from train.rerankers.candidate_rows import CandidateRows, log_importance
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.cross_validation import cross_fit, earns, ranked
from train.rerankers.mlp import MLP, MLPReranker
from train.rerankers.mlp_training import Network, listwise_cross_entropy
from train.rerankers.stored import load
from train.rerankers.training_set import TrainingSet


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.5]), max_size=6), min_size=1, max_size=5))
def test_ranked_keeps_stage_1s_order_of_equal_scores(rows: list[list[float]]) -> None:
    query = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    scores = np.array([score for row in rows for score in row], dtype=np.float32)
    item = np.arange(len(scores), dtype=np.int32)[::-1]
    candidates = CandidateRows(np.zeros((len(scores), 1)), query, item, np.zeros((len(rows), 2)))
    best = ranked(candidates, scores, 4)
    for number in range(len(rows)):
        own = np.flatnonzero(query == number)
        expected = sorted(own, key=lambda row: (-scores[row], row))[:4]
        assert best[number].tolist() == [
            *(item[row] for row in expected),
            *[-1] * (4 - len(expected)),
        ]


class _Spy(CatBoost):
    def _fit(
        self, training: TrainingSet, seed: int, threads: int, evaluation: TrainingSet | None
    ) -> Reranker:
        return _Seen(training)


class _Seen:
    """Scores a row by the number of queries that were fitted on, and 1 more for their own rows."""

    name = "seen"
    reads_users = False

    def __init__(self, training: TrainingSet) -> None:
        self.rows, self.labels = training.rows, training.labels
        self._queries = np.unique(training.rows.query)

    def score(self, rows: CandidateRows) -> Array:
        return np.isin(rows.query, self._queries) + np.float32(len(self._queries))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_cross_fit_never_scores_a_query_that_was_fitted_on() -> None:
    training = planted(queries=41)
    scores = cross_fit(_Spy(), training, folds=4)
    query = training.rows.query
    fitted_on = np.array([np.ptp(scores[query == number]) for number in range(41)])
    assert not fitted_on.any()
    assert sorted(set(scores.tolist())) == [30.0, 31.0]


def test_too_few_queries_to_cross_fit() -> None:
    with pytest.raises(ValueError, match="4 folds need 4 queries, got 3"):
        cross_fit(CatBoost(), planted(queries=3))


def test_earns_is_the_paired_difference_of_ndcg() -> None:
    training = planted()
    rows, labels = training.rows, training.labels
    truth = Ragged.from_pairs(rows.query, np.where(labels > 0, rows.item, 10_000), 60)
    scores = labels + 0.5 * rows.features[:, 3]
    found = earns(replace(training, ground_truth=truth), scores, k=5, seed=4)
    stage1 = per_user(rows.item.reshape(60, 20)[:, :5], truth, 5)["ndcg"]
    ours = per_user(ranked(rows, scores, 5), truth, 5)["ndcg"]
    assert found["ndcg_stage1"] == pytest.approx(stage1.mean())
    assert found["ndcg"] == pytest.approx(ours.mean())
    assert (found["gain"], found["low"], found["high"]) == bootstrap(ours - stage1, seed=4)
    assert found["earned"] and found["queries"] == 60


def test_stage_1s_own_order_earns_nothing() -> None:
    training = planted()
    found = earns(training, -training.rows.features[:, 0])
    assert (found["gain"], found["earned"]) == (0.0, False)


def test_queries_that_took_nothing_do_not_count() -> None:
    training = planted()
    labels = np.where(training.rows.query < 50, 0, training.labels)
    assert earns(replace(training, labels=labels), labels)["queries"] == 10
    nothing = earns(replace(training, labels=0 * labels), labels)
    assert nothing["queries"] == 0 and not nothing["earned"]


def test_a_training_set_has_a_label_for_each_row_and_a_name_for_each_column() -> None:
    training = planted()
    with pytest.raises(ValueError, match="need 1200 labels and 4 names, got 1200 and 3"):
        replace(training, feature_names=NAMES[:3])
    with pytest.raises(ValueError, match="need 1200 labels and 4 names, got 1199 and 4"):
        replace(training, labels=training.labels[1:])


def _fitted_on(settings: _Spy, training: TrainingSet, seed: int = 0) -> _Seen:
    seen = settings.fit(training, seed)
    assert isinstance(seen, _Seen)
    return seen


def test_some_negatives_and_every_positive_of_queries_that_have_one() -> None:
    training = planted(queries=200)
    rows = training.rows
    labels = np.where(rows.query < 20, 0, training.labels)
    seen = _fitted_on(_Spy(negatives=5), replace(training, labels=labels))
    assert set(seen.rows.query.tolist()) == set(range(20, 200))
    assert seen.labels.sum() == labels.sum()
    assert (seen.labels == 0).sum() == pytest.approx(5 * 180, rel=0.15)
    assert seen.rows.importance is not None
    expected = np.where(seen.labels > 0, 1, 17 / 5)
    np.testing.assert_allclose(seen.rows.importance, expected, rtol=1e-6)
    np.testing.assert_allclose(log_importance(seen.rows), np.log(expected), rtol=1e-6)
    assert not log_importance(rows).any()  # nothing was left out
    key = seen.rows.query * ITEMS + seen.rows.item
    before = dict(zip((rows.query * ITEMS + rows.item).tolist(), labels.tolist(), strict=True))
    assert [before[row] for row in key.tolist()] == seen.labels.tolist()


def test_max_rows_leaves_whole_queries_out() -> None:
    training = planted()
    seen = _fitted_on(_Spy(max_rows=100), training)
    assert np.unique(seen.rows.query, return_counts=True)[1].tolist() == [20] * 5
    other = _fitted_on(_Spy(max_rows=100), training, seed=1)
    assert set(seen.rows.query.tolist()) != set(other.rows.query.tolist())
    assert len(_fitted_on(_Spy(max_rows=3), training).labels) == 20


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="unknown reranker 'lgbm'; available: blend, catboost, logit, mlp"
    ):
        load("lgbm", tmp_path, np.zeros((1, 1)))


def test_split_first_layer_equals_the_network() -> None:
    training = planted()
    rows = training.rows
    model = MLP(hidden=(16, 8), epochs=3).fit(training)
    assert isinstance(model, MLPReranker)
    w = model.weights
    network = Network(len(NAMES), WIDTH, (16, 8), 0.0)
    parts = [w["w_features"], w["w_user"], w["w_item"]]
    network.load_state_dict(
        {
            name: torch.from_numpy(np.ascontiguousarray(value))
            for name, value in {
                "first.weight": np.concatenate(parts).T,
                "first.bias": w["b1"],
                "second.weight": w["w2"].T,
                "second.bias": w["b2"],
                "third.weight": w["w3"][None],
                "third.bias": w["b3"],
            }.items()
        }
    )
    scaled = np.clip((rows.features - w["mean"]) * w["scale"], -5, 5)
    vectors = rows.user_vectors[rows.query], training.item_vectors[rows.item]
    inputs = np.hstack([scaled, *vectors])
    expected = network(torch.from_numpy(inputs.astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(model.score(rows), expected, rtol=1e-4, atol=1e-5)


def test_mlp_of_other_vectors(tmp_path: Path) -> None:
    MLP(hidden=(8, 4), epochs=1).fit(planted()).save(tmp_path)
    with pytest.raises(ValueError, match="not an MLPReranker over vectors of 7"):
        load("mlp", tmp_path, np.zeros((ITEMS, 7), np.float32))


def test_mlp_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    MLP(hidden=(8, 4), epochs=1).fit(planted(), 3, threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_listwise_cross_entropy_by_hand() -> None:
    scores = torch.tensor([[0.0, np.log(2.0), 50.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = listwise_cross_entropy(scores, labels, mask)
    assert float(loss) == pytest.approx((np.log(1.5) + np.log(3.0)) / 2, rel=1e-5)

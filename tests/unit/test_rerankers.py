"""Ordering, folds, and whether a reranker earns its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.planted_pairs import ITEMS, NAMES, WIDTH, planted
from train.core.ragged import Array, Ragged
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import per_user
from train.rerankers.base import Given, Reranker
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.cross_validation import cross_fit, earns, ranked
from train.rerankers.mlp import MLP, MLPReranker
from train.rerankers.mlp_training import Network, listwise_cross_entropy
from train.rerankers.stored import load


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.5]), max_size=6), min_size=1, max_size=5))
def test_ranked_keeps_stage_1s_order_of_equal_scores(rows: list[list[float]]) -> None:
    query = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    scores = np.array([score for row in rows for score in row], dtype=np.float32)
    item = np.arange(len(scores), dtype=np.int32)[::-1]
    pairs = CandidateRows(np.zeros((len(scores), 1)), query, item, np.zeros((len(rows), 2)))
    best = ranked(pairs, scores, 4)
    for number in range(len(rows)):
        own = np.flatnonzero(query == number)
        expected = sorted(own, key=lambda row: (-scores[row], row))[:4]
        assert best[number].tolist() == [
            *(item[row] for row in expected),
            *[-1] * (4 - len(expected)),
        ]


class _Spy(CatBoost):
    def _fit(self, given: Given) -> Reranker:
        return _Seen(given.pairs, given.labels)


class _Seen:
    """Scores a row by the number of queries that were fitted on, and 1 more for their own rows."""

    name = "seen"

    def __init__(self, pairs: CandidateRows, labels: Array) -> None:
        self.pairs, self.labels = pairs, labels
        self._queries = np.unique(pairs.query)

    def score(self, pairs: CandidateRows) -> Array:
        return np.isin(pairs.query, self._queries) + np.float32(len(self._queries))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_cross_fit_never_scores_a_query_that_was_fitted_on() -> None:
    pairs, labels, vectors = planted(queries=41)
    scores = cross_fit(_Spy(), pairs, labels, vectors, NAMES, folds=4)
    fitted_on = np.array([np.ptp(scores[pairs.query == query]) for query in range(41)])
    assert not fitted_on.any()
    assert sorted(set(scores.tolist())) == [30.0, 31.0]


def test_too_few_queries_to_cross_fit() -> None:
    pairs, labels, vectors = planted(queries=3)
    with pytest.raises(ValueError, match="4 folds need 4 queries, got 3"):
        cross_fit(CatBoost(), pairs, labels, vectors, NAMES)


def test_earns_is_the_paired_difference_of_ndcg() -> None:
    pairs, labels, _ = planted()
    relevant = Ragged.from_pairs(pairs.query, np.where(labels > 0, pairs.item, 10_000), 60)
    scores = labels + 0.5 * pairs.features[:, 3]
    found = earns(pairs, labels, scores, relevant, k=5, seed=4)
    stage1 = per_user(pairs.item.reshape(60, 20)[:, :5], relevant, 5)["ndcg"]
    ours = per_user(ranked(pairs, scores, 5), relevant, 5)["ndcg"]
    assert found["ndcg_stage1"] == pytest.approx(stage1.mean())
    assert found["ndcg"] == pytest.approx(ours.mean())
    assert (found["gain"], found["low"], found["high"]) == bootstrap(ours - stage1, seed=4)
    assert found["earned"] and found["queries"] == 60


def test_stage_1s_own_order_earns_nothing() -> None:
    pairs, labels, _ = planted()
    found = earns(pairs, labels, -pairs.features[:, 0])
    assert (found["gain"], found["earned"]) == (0.0, False)


def test_queries_that_took_nothing_do_not_count() -> None:
    pairs, labels, _ = planted()
    labels[pairs.query < 50] = 0
    assert earns(pairs, labels, labels)["queries"] == 10
    nothing = earns(pairs, 0 * labels, labels)
    assert nothing["queries"] == 0 and not nothing["earned"]


def _fitted_on(settings: _Spy, labels: Array, pairs: CandidateRows, seed: int = 0) -> _Seen:
    seen = settings.fit(pairs, labels, np.zeros((ITEMS, WIDTH)), NAMES, seed, 1)
    assert isinstance(seen, _Seen)
    return seen


def test_some_negatives_and_every_positive_of_queries_that_have_one() -> None:
    pairs, labels, _ = planted(queries=200)
    labels[pairs.query < 20] = 0
    seen = _fitted_on(_Spy(negatives=5), labels, pairs)
    assert set(seen.pairs.query.tolist()) == set(range(20, 200))
    assert seen.labels.sum() == labels.sum()
    assert (seen.labels == 0).sum() == pytest.approx(5 * 180, rel=0.15)
    assert seen.pairs.importance is not None
    drawn_of = np.where(seen.labels > 0, 1, 17 / 5)
    np.testing.assert_allclose(seen.pairs.importance, drawn_of, rtol=1e-6)
    key = seen.pairs.query * ITEMS + seen.pairs.item
    before = dict(zip((pairs.query * ITEMS + pairs.item).tolist(), labels.tolist(), strict=True))
    assert [before[row] for row in key.tolist()] == seen.labels.tolist()


def test_max_rows_leaves_whole_queries_out() -> None:
    pairs, labels, _ = planted()
    seen = _fitted_on(_Spy(max_rows=100), labels, pairs)
    assert np.unique(seen.pairs.query, return_counts=True)[1].tolist() == [20] * 5
    other = _fitted_on(_Spy(max_rows=100), labels, pairs, seed=1)
    assert set(seen.pairs.query.tolist()) != set(other.pairs.query.tolist())
    assert len(_fitted_on(_Spy(max_rows=3), labels, pairs).labels) == 20


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="unknown reranker 'lgbm'; available: catboost, logit, mlp"
    ):
        load("lgbm", tmp_path, np.zeros((1, 1)))


def test_split_first_layer_equals_the_network() -> None:
    pairs, labels, vectors = planted()
    model = MLP(hidden=(16, 8), epochs=3).fit(pairs, labels, vectors, NAMES, 0, 1)
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
    scaled = np.clip((pairs.features - w["mean"]) * w["scale"], -5, 5)
    inputs = np.hstack([scaled, pairs.user_vectors[pairs.query], vectors[pairs.item]])
    expected = network(torch.from_numpy(inputs.astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(model.score(pairs), expected, rtol=1e-4, atol=1e-5)


def test_mlp_of_other_vectors(tmp_path: Path) -> None:
    pairs, labels, vectors = planted()
    MLP(hidden=(8, 4), epochs=1).fit(pairs, labels, vectors, NAMES, 0, 1).save(tmp_path)
    with pytest.raises(ValueError, match="not an MLPReranker over vectors of 7"):
        load("mlp", tmp_path, np.zeros((ITEMS, 7), np.float32))


def test_mlp_leaves_torch_as_it_was() -> None:
    pairs, labels, vectors = planted()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    MLP(hidden=(8, 4), epochs=1).fit(pairs, labels, vectors, NAMES, 3, threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_listwise_cross_entropy_by_hand() -> None:
    scores = torch.tensor([[0.0, np.log(2.0), 50.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    inside = torch.tensor([[True, True, False], [True, True, True]])
    loss = listwise_cross_entropy(scores, labels, inside)
    assert float(loss) == pytest.approx((np.log(1.5) + np.log(3.0)) / 2, rel=1e-5)

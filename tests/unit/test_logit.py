"""The conditional logit: it finds planted weights, and only as many as there are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from threadpoolctl import threadpool_info, threadpool_limits

from tests.planted_candidates import NAMES, planted
from train.core.ragged import Array
from train.rerankers.logit import LinearReranker, Logit, _Groups
from train.rerankers.training_set import TrainingSet

TRUE = np.array([0.0, 1.5, -0.8, 0.0])


def _chosen(queries: int = 2000, width: int = 20) -> TrainingSet:
    """Return queries of which one candidate each is taken, with the planted weights."""
    training = planted(queries, width)
    labels = training.labels
    drawn = training.rows.features @ TRUE + np.random.default_rng(1).gumbel(size=len(labels))
    best = drawn.reshape(queries, width).argmax(axis=1)
    labels = (np.arange(width) == best[:, None]).ravel().astype(np.float32)
    return replace(training, labels=labels)


def _weights(settings: Logit, training: TrainingSet) -> Array:
    model = settings.fit(training)
    assert isinstance(model, LinearReranker)
    return model.weights


def test_it_finds_the_weights_by_which_candidates_were_taken() -> None:
    np.testing.assert_allclose(_weights(Logit(l2=(1.0,)), _chosen()), TRUE, atol=0.12)


def test_few_drawn_negatives_find_their_direction() -> None:
    """A sampled softmax is steeper than the whole; what it orders by is the same."""
    found = _weights(Logit(negatives=5), _chosen())
    assert found @ TRUE > 0.99 * np.linalg.norm(found) * np.linalg.norm(TRUE)


def test_a_penalty_that_other_queries_ask_for_is_chosen() -> None:
    """Two noises that are useful only in their difference need a weak one, one useful feature none.

    The weights of a strong penalty go as each feature's own covariance with the labels.
    """
    rng = np.random.default_rng(0)
    difference = planted(queries=200)
    features = difference.rows.features.copy()
    features[:, 3] = 3 * rng.standard_normal(len(features))
    features[:, 1] += features[:, 3]
    difference = replace(difference, rows=replace(difference.rows, features=features))
    for training, best in ((planted(queries=40, signal=0), 1e6), (difference, 0.1)):
        chosen = _weights(Logit(l2=(0.1, 1e6)), training)
        alone = _weights(Logit(l2=(best,)), training)
        np.testing.assert_allclose(chosen, alone, rtol=1e-2, atol=1e-3)


def test_it_reads_the_features_that_it_is_given() -> None:
    training = planted()
    rows = training.rows
    model = Logit(features=("useful", "noise")).fit(training)
    for column, matters in enumerate([False, True, False, True]):
        features = rows.features.copy()
        features[:, column] += np.arange(len(training)) % 7
        moved = replace(rows, features=features)
        assert (model.score(moved) != model.score(rows)).any() == matters


def test_unknown_features_are_named_with_those_there_are() -> None:
    settings = Logit(features=("useful", "usefull", "linear_score"))
    message = (
        "reranker.features: candidates have no usefull, linear_score; set linear_score.rank to "
        "have one; available: retrieval_rank, useful, bend, noise"
    )
    with pytest.raises(ValueError) as error:
        settings.check(NAMES)
    assert str(error.value) == message
    settings.check((*NAMES, "usefull", "linear_score"))


def test_the_gradient_is_that_of_the_loss() -> None:
    training = planted(queries=8)
    importance = np.linspace(1, 5, len(training)).astype(np.float32)
    training = replace(training, rows=replace(training.rows, importance=importance))
    training.labels[training.rows.query == 3] = 0  # a query that says nothing
    groups = _Groups.of(training, training.rows.features)
    weights, step = np.array([0.3, -0.2, 0.5, 0.1]), 1e-6
    _, gradient = groups.loss(weights, 2.0)
    for column in range(4):
        moved = np.eye(4)[column] * step
        change = groups.loss(weights + moved, 2.0)[0] - groups.loss(weights - moved, 2.0)[0]
        assert gradient[column] == pytest.approx(change / (2 * step), rel=1e-4, abs=1e-4)


def test_a_feature_that_never_changes_weighs_nothing() -> None:
    training = planted()
    training.rows.features[:, 3] = 7
    assert _weights(Logit(), training)[3] == 0


def test_it_is_fitted_in_one_thread_of_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle threads of two copies of BLAS spin against each other; see `Logit`."""
    threads: set[int] = set()
    loss = _Groups.loss

    def spied(groups: _Groups, weights: Array, l2: float = 0.0) -> tuple[float, Array]:
        pools = threadpool_info()
        threads.update(pool["num_threads"] for pool in pools if pool["user_api"] == "blas")
        return loss(groups, weights, l2)

    monkeypatch.setattr(_Groups, "loss", spied)
    with threadpool_limits(2, user_api="blas"):
        Logit(l2=(1.0,)).fit(planted())
        pools = threadpool_info()
    assert threads == {1}
    assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} == {2}


def test_its_file_says_what_weighs_how_much(tmp_path: Path) -> None:
    Logit(features=("bend", "useful")).fit(planted()).save(tmp_path)
    table = json.loads((tmp_path / "reranker.json").read_text())
    assert table["features"] == ["bend", "useful"] and table["columns"] == [2, 1]
    assert table["weights"][1] > 0.5


@pytest.mark.parametrize("penalties", [(), (0.0,), (1.0, -1.0)])
def test_penalties_are_positive_and_there_is_one(penalties: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Logit(l2=penalties)


def test_a_single_query_is_enough() -> None:
    assert _weights(Logit(), planted(queries=1))[1] > 0


@pytest.mark.parametrize("text", ["[]", "{}", '{"columns": [0], "weights": ["x"]}'])
def test_another_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reranker.json").write_text(text)
    with pytest.raises(ValueError, match=r"reranker\.json is not a logit's file"):
        LinearReranker.load(tmp_path)

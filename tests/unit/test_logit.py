"""The conditional logit: it finds planted weights, and only as many as there are."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.planted_pairs import NAMES, planted
from train.core.ragged import Array
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.logit import LinearReranker, Logit, _Rows

TRUE = np.array([0.0, 1.5, -0.8, 0.0])


def _chosen(queries: int = 2000, width: int = 20) -> tuple[CandidateRows, Array, Array]:
    """Return queries of which one candidate each is taken, with the planted weights."""
    pairs, labels, vectors = planted(queries, width)
    drawn = pairs.features @ TRUE + np.random.default_rng(1).gumbel(size=len(labels))
    best = drawn.reshape(queries, width).argmax(axis=1)
    labels = (np.arange(width) == best[:, None]).ravel().astype(np.float32)
    return pairs, labels, vectors


def _weights(settings: Logit, pairs: CandidateRows, labels: Array, vectors: Array) -> Array:
    model = settings.fit(pairs, labels, vectors, NAMES, seed=0, threads=1)
    assert isinstance(model, LinearReranker)
    return model.weights


def test_it_finds_the_weights_by_which_candidates_were_taken() -> None:
    np.testing.assert_allclose(_weights(Logit(), *_chosen()), TRUE, atol=0.12)


def test_few_drawn_negatives_find_their_direction() -> None:
    """A sampled softmax is steeper than the whole; what it orders by is the same."""
    found = _weights(Logit(negatives=5), *_chosen())
    assert found @ TRUE > 0.99 * np.linalg.norm(found) * np.linalg.norm(TRUE)


def test_a_penalty_that_other_queries_ask_for_is_chosen() -> None:
    """Where nothing can be told, the strongest penalty leaves the least noise."""
    nothing, signal = planted(queries=40, signal=0), planted(queries=200)
    for (pairs, labels, vectors), best in ((nothing, 1e6), (signal, 0.1)):
        chosen = _weights(Logit(l2=(0.1, 1e6)), pairs, labels, vectors)
        alone = _weights(Logit(l2=(best,)), pairs, labels, vectors)
        np.testing.assert_allclose(chosen, alone, rtol=1e-2, atol=1e-3)


def test_it_reads_the_features_that_it_is_given() -> None:
    pairs, labels, vectors = planted()
    settings = Logit(features=("useful", "noise"))
    model = settings.fit(pairs, labels, vectors, NAMES, seed=0, threads=1)
    for column, matters in enumerate([False, True, False, True]):
        features = pairs.features.copy()
        features[:, column] += np.arange(len(labels)) % 7
        moved = CandidateRows(features, pairs.query, pairs.item, pairs.user_vectors)
        assert (model.score(moved) != model.score(pairs)).any() == matters


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


def test_the_slope_is_that_of_the_loss() -> None:
    pairs, labels, _ = planted(queries=8)
    drawn = np.linspace(1, 5, len(labels)).astype(np.float32)
    pairs = CandidateRows(pairs.features, pairs.query, pairs.item, pairs.user_vectors, drawn)
    labels[pairs.query == 3] = 0  # a query that says nothing
    rows = _Rows.of(pairs, labels, np.arange(4), np.ones(4))
    weights, step = np.array([0.3, -0.2, 0.5, 0.1]), 1e-6
    _, slope = rows.loss(weights, 2.0)
    for column in range(4):
        moved = np.eye(4)[column] * step
        change = rows.loss(weights + moved, 2.0)[0] - rows.loss(weights - moved, 2.0)[0]
        assert slope[column] == pytest.approx(change / (2 * step), rel=1e-4, abs=1e-4)


def test_a_feature_that_never_changes_weighs_nothing() -> None:
    pairs, labels, vectors = planted()
    pairs.features[:, 3] = 7
    assert _weights(Logit(), pairs, labels, vectors)[3] == 0


def test_its_file_says_what_weighs_how_much(tmp_path: Path) -> None:
    pairs, labels, vectors = planted()
    Logit(features=("bend", "useful")).fit(pairs, labels, vectors, NAMES, 0, 1).save(tmp_path)
    table = json.loads((tmp_path / "reranker.json").read_text())
    assert table["features"] == ["bend", "useful"] and table["columns"] == [2, 1]
    assert table["weights"][1] > 0.5


@pytest.mark.parametrize("penalties", [(), (0.0,), (1.0, -1.0)])
def test_penalties_are_positive_and_there_is_one(penalties: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Logit(l2=penalties)


def test_a_single_query_is_enough() -> None:
    pairs, labels, vectors = planted(queries=1)
    assert _weights(Logit(), pairs, labels, vectors)[1] > 0


@pytest.mark.parametrize("text", ["[]", "{}", '{"columns": [0], "weights": ["x"]}'])
def test_another_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "reranker.json").write_text(text)
    with pytest.raises(ValueError, match=r"reranker\.json is not a logit's file"):
        LinearReranker.load(tmp_path)

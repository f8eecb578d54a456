"""What every reranker does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.planted_candidates import ITEMS, NAMES, WIDTH, planted
from train.rerankers import RERANKERS
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.cross_validation import cross_fit, earns
from train.rerankers.importance import importance_of
from train.rerankers.stored import load
from train.rerankers.training_set import TrainingSet

QUICK: dict[str, dict[str, Any]] = {
    "catboost": {"iterations": 60, "learning_rate": 0.1},
    # Planted candidates have no sources.
    "blend": {"features": NAMES},
    "mlp": {"hidden": (32, 16), "epochs": 40, "learning_rate": 5e-3},
}


def _settings(name: str) -> RerankerSettings:
    return RERANKERS[name].model_validate(QUICK.get(name, {}))


def _fitted(name: str, seed: int = 0, queries: int = 60) -> tuple[Reranker, TrainingSet]:
    training = planted(queries)
    return _settings(name).fit(training, seed), training


@pytest.mark.parametrize("name", RERANKERS)
class TestReranker:
    def test_name_is_its_key(self, name: str) -> None:
        assert RERANKERS[name].model_fields["name"].default == name
        assert _fitted(name)[0].name == name

    def test_orders_other_queries_better_than_stage_1(self, name: str) -> None:
        model, _ = _fitted(name, queries=200)
        other = planted(seed=1)
        scores = model.score(other.rows)
        assert scores.dtype == np.float32 and scores.shape == other.labels.shape
        found = earns(other, scores, k=3)
        assert found["earned"]
        assert found["ndcg"] > found["ndcg_stage1"] + 0.2

    def test_what_all_candidates_share_changes_an_order_only_where_it_says_so(
        self, name: str
    ) -> None:
        model, training = _fitted(name, queries=200)
        if model.reads_users:
            return
        shifted = training.rows.features.copy()
        shifted[:, NAMES.index("noise")] += 3
        rows = training.rows
        scores, others = (model.score(of) for of in (rows, replace(rows, features=shifted)))
        apart = [others[rows.query == at] - scores[rows.query == at] for at in range(20)]
        np.testing.assert_allclose(np.concatenate([of - of[0] for of in apart]), 0, atol=1e-4)

    def test_it_says_which_features_it_relies_on(self, name: str) -> None:
        model, training = _fitted(name, queries=200)
        found = importance_of(model, training, 0)
        figures = found["features"]
        assert found["measure"]
        assert set(figures) == set(NAMES)
        assert [*figures] == sorted(figures, key=lambda of: (-abs(figures[of]), of))
        # What counts in the planted utility counts more than what does not.
        assert next(iter(figures)) == "useful"
        assert abs(figures["noise"]) < 0.2 * abs(figures["useful"])
        assert found == importance_of(model, training, 0)

    def test_negatives_that_are_left_out_count_all_the_same(self, name: str) -> None:
        """Likely candidates are taken 9 times in 10, the others once in 2: log(0.9 / 0.5) apart."""
        rng = np.random.default_rng(0)
        feature = rng.integers(0, 2, 300 * 60).astype(np.float32)
        labels = (rng.random(len(feature)) < 0.5 + 0.4 * feature).astype(np.float32)
        query = np.repeat(np.arange(300), 60)
        vectors = np.zeros((300, WIDTH), np.float32)
        item = np.tile(np.arange(60, dtype=np.int32), 300)
        rows = CandidateRows(np.stack([feature] * len(NAMES), 1), query, item, vectors)
        for negatives in (100, 3):
            settings = _settings(name).model_copy(update={"negatives": negatives})
            scores = settings.fit(TrainingSet(rows, labels, vectors, NAMES)).score(rows)
            gap = float(scores[feature > 0].mean() - scores[feature == 0].mean())
            assert gap == pytest.approx(np.log(0.9 / 0.5), abs=0.1)

    def test_the_same_seed_gives_the_same_scores(self, name: str) -> None:
        first, training = _fitted(name)
        again, other = _fitted(name)[0], _fitted(name, seed=1)[0]
        np.testing.assert_array_equal(first.score(training.rows), again.score(training.rows))
        assert (first.score(training.rows) != other.score(training.rows)).any()

    def test_saved_and_loaded_gives_the_same_scores(self, name: str, tmp_path: Path) -> None:
        model, training = _fitted(name)
        model.save(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        loaded = load(name, tmp_path, training.item_vectors)
        assert loaded.name == name
        np.testing.assert_array_equal(model.score(training.rows), loaded.score(training.rows))

    def test_a_foreign_or_missing_file_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=str(tmp_path)):
            load(name, tmp_path, np.zeros((ITEMS, WIDTH), np.float32))
        _fitted(name)[0].save(tmp_path)
        next(tmp_path.iterdir()).write_bytes(b"something else altogether")
        with pytest.raises(ValueError, match=str(tmp_path)):
            load(name, tmp_path, np.zeros((ITEMS, WIDTH), np.float32))

    def test_a_row_s_score_depends_on_its_own_request_alone(self, name: str) -> None:
        """Bit for bit, whatever is scored with it: offline evaluation and serving agree."""
        model, training = _fitted(name)
        # Requests of different lengths, some longer than a block of the products, one without rows.
        rows = CandidateRows(
            training.rows.features,
            np.repeat([0, 1, 3, 4, 5, 6], [1, 49, 50, 51, 249, 800]),
            training.rows.item,
            training.rows.user_vectors,
        )
        together = model.score(rows)
        for request in range(7):
            own = rows.query == request
            alone = replace(rows.take(own), query=np.zeros(own.sum(), np.int64))
            alone = replace(alone, user_vectors=rows.user_vectors[request : request + 1])
            np.testing.assert_array_equal(model.score(alone), together[own])
        half = rows.query >= 4
        np.testing.assert_array_equal(model.score(rows.take(half)), together[half])

    def test_no_rows(self, name: str) -> None:
        model, training = _fitted(name)
        assert model.score(training.rows.take(training.rows.query < 0)).shape == (0,)

    def test_out_of_fold_scores_earn_by_signal_only(self, name: str) -> None:
        for signal, earned in ((3.0, True), (0.0, False)):
            training = planted(queries=80, signal=signal)
            scores = cross_fit(_settings(name), training, folds=2)
            assert earns(training, scores)["earned"] is earned

    def test_stops_when_other_queries_get_no_better(self, name: str) -> None:
        training, other = planted(queries=30, signal=0.5), planted(seed=1, signal=0.5)
        settings = _settings(name)
        free = settings.fit(training)
        watched = settings.fit(training, evaluation=other)
        assert (free.score(other.rows) != watched.score(other.rows)).any()

    def test_nothing_taken(self, name: str) -> None:
        training = planted()
        with pytest.raises(ValueError, match="none of the 1200 candidates was taken"):
            _settings(name).fit(replace(training, labels=0 * training.labels))

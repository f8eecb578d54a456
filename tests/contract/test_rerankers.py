"""What every reranker does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.planted_pairs import ITEMS, NAMES, WIDTH, planted
from train.core.ragged import Array
from train.rerankers import RERANKERS
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.cross_validation import cross_fit, earns
from train.rerankers.stored import load

QUICK: dict[str, dict[str, Any]] = {
    "catboost": {"iterations": 60, "learning_rate": 0.1},
    "mlp": {"hidden": (32, 16), "epochs": 40, "learning_rate": 5e-3},
}


def _settings(name: str) -> RerankerSettings:
    return RERANKERS[name].model_validate(QUICK.get(name, {}))


def _fitted(
    name: str, seed: int = 0, queries: int = 60
) -> tuple[Reranker, CandidateRows, Array, Array]:
    pairs, labels, vectors = planted(queries)
    return _settings(name).fit(pairs, labels, vectors, NAMES, seed, 1), pairs, labels, vectors


@pytest.mark.parametrize("name", RERANKERS)
class TestReranker:
    def test_name_is_its_key(self, name: str) -> None:
        assert RERANKERS[name].model_fields["name"].default == name
        assert _fitted(name)[0].name == name

    def test_orders_other_queries_better_than_stage_1(self, name: str) -> None:
        model, *_ = _fitted(name, queries=200)
        other, labels, _ = planted(seed=1)
        scores = model.score(other)
        assert scores.dtype == np.float32 and scores.shape == labels.shape
        found = earns(other, labels, scores, k=3)
        assert found["earned"]
        assert found["ndcg"] > found["ndcg_stage1"] + 0.2

    def test_negatives_that_are_left_out_count_all_the_same(self, name: str) -> None:
        """Likely candidates are taken 9 times in 10, the others once in 2: log(0.9 / 0.5) apart."""
        rng = np.random.default_rng(0)
        feature = rng.integers(0, 2, 300 * 60).astype(np.float32)
        labels = (rng.random(len(feature)) < 0.5 + 0.4 * feature).astype(np.float32)
        query = np.repeat(np.arange(300), 60)
        vectors = np.zeros((300, WIDTH), np.float32)
        item = np.tile(np.arange(60, dtype=np.int32), 300)
        pairs = CandidateRows(np.stack([feature] * len(NAMES), 1), query, item, vectors)
        for negatives in (100, 3):
            settings = _settings(name).model_copy(update={"negatives": negatives})
            scores = settings.fit(pairs, labels, vectors, NAMES, 0, 1).score(pairs)
            gap = float(scores[feature > 0].mean() - scores[feature == 0].mean())
            assert gap == pytest.approx(np.log(0.9 / 0.5), abs=0.1)

    def test_the_same_seed_gives_the_same_scores(self, name: str) -> None:
        first, pairs, _, _ = _fitted(name)
        again, other = _fitted(name)[0], _fitted(name, seed=1)[0]
        np.testing.assert_array_equal(first.score(pairs), again.score(pairs))
        assert (first.score(pairs) != other.score(pairs)).any()

    def test_saved_and_loaded_gives_the_same_scores(self, name: str, tmp_path: Path) -> None:
        model, pairs, _, vectors = _fitted(name)
        model.save(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        loaded = load(name, tmp_path, vectors)
        assert loaded.name == name
        np.testing.assert_array_equal(model.score(pairs), loaded.score(pairs))

    def test_a_foreign_or_missing_file_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=str(tmp_path)):
            load(name, tmp_path, np.zeros((ITEMS, WIDTH), np.float32))
        _fitted(name)[0].save(tmp_path)
        next(tmp_path.iterdir()).write_bytes(b"something else altogether")
        with pytest.raises(ValueError, match=str(tmp_path)):
            load(name, tmp_path, np.zeros((ITEMS, WIDTH), np.float32))

    def test_scores_of_a_query_alone(self, name: str) -> None:
        model, pairs, _, _ = _fitted(name)
        alone = pairs.take(pairs.query == 7)
        np.testing.assert_allclose(
            model.score(alone), model.score(pairs)[pairs.query == 7], rtol=1e-5, atol=1e-5
        )

    def test_no_rows(self, name: str) -> None:
        model, pairs, _, _ = _fitted(name)
        assert model.score(pairs.take(pairs.query < 0)).shape == (0,)

    def test_out_of_fold_scores_earn_by_signal_only(self, name: str) -> None:
        for signal, earned in ((3.0, True), (0.0, False)):
            pairs, labels, vectors = planted(queries=80, signal=signal)
            scores = cross_fit(_settings(name), pairs, labels, vectors, NAMES, folds=2)
            assert earns(pairs, labels, scores)["earned"] is earned

    def test_stops_when_other_queries_get_no_better(self, name: str) -> None:
        pairs, labels, vectors = planted(queries=30, signal=0.5)
        other, other_labels, _ = planted(seed=1, signal=0.5)
        settings = _settings(name)
        free = settings.fit(pairs, labels, vectors, NAMES, 0, 1)
        watched = settings.fit(
            pairs, labels, vectors, NAMES, 0, 1, evaluation=(other, other_labels)
        )
        assert (free.score(other) != watched.score(other)).any()

    def test_nothing_taken(self, name: str) -> None:
        pairs, labels, vectors = planted()
        with pytest.raises(ValueError, match="none of the 1200 candidates was taken"):
            _settings(name).fit(pairs, 0 * labels, vectors, NAMES, 0, 1)

    def test_names_that_do_not_fit(self, name: str) -> None:
        pairs, labels, vectors = planted()
        with pytest.raises(ValueError, match="need 1200 labels and 4 names, got 1200 and 3"):
            _settings(name).fit(pairs, labels, vectors, NAMES[:3], 0, 1)

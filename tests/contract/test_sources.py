"""What every candidate source keeps; a new entry of `SOURCES` is tested by being there."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.training import events, plain_inputs, small
from train.baselines import BASELINES
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.snapshot import Snapshot, snapshot, validation_holdout
from train.data.splits.base import TRAIN
from train.data.statistics import Statistics
from train.index.candidates import Queries
from train.index.exact import rank_scores
from train.sources.base import Source, SourceSettings
from train.sources.entries import SOURCES
from train.sources.fitted import SHAPES, from_arrays
from train.sources.fitting import fit_sources, suitable
from train.sources.vectors import VectorSource

# The towers are trained, not fitted, and searched by the index of the run.
FITTED = [name for name in SOURCES if name != "tower"]
# What has values where its own are None, or are for more data.
QUICK: dict[str, dict[str, Any]] = {
    "als": {"factors": 8, "alpha": 10.0, "regularization": 1.0},
    "svd": {"rank": 8, "regularization": 0.0},
    "slim": {"alpha": 0.01},
    "itemknn": {"neighbours": 20},
    "ease": {"regularization": 10.0},
    "recent_popularity": {"days": 7},
}
COLD = 3
COUNT = 12


@cache
def known() -> Snapshot:
    """Return what was known before the validation window, nothing of item 3."""
    data, folds = small()
    of = (folds.fold == TRAIN) & (data.interactions.item != COLD)
    return snapshot(data, of, folds.t1, 7)


def settings(name: str) -> SourceSettings:
    return SOURCES[name].model_validate({"name": name, **QUICK.get(name, {})})


@cache
def fitted(name: str) -> Source:
    return settings(name).source(known(), 0)


def requests(*histories: list[int]) -> Queries:
    """Return requests of nobody who is known, with these histories."""
    history = Ragged.from_rows(histories)
    return Queries(np.full(len(histories), -1, dtype=np.int32), history, history)


def of_users(count: int = 20) -> Queries:
    users = np.arange(count, dtype=np.int32)
    history = known().histories.take(users)
    return Queries(users, history, history)


@pytest.mark.parametrize("name", FITTED)
class TestSource:
    def test_it_is_called_as_its_key_and_of_a_known_shape(self, name: str) -> None:
        assert SOURCES[name].model_fields["name"].default == name
        assert fitted(name).shape in SHAPES

    def test_candidates_are_new_items_of_the_catalogue_best_first(self, name: str) -> None:
        asked = of_users()
        found = fitted(name).candidates(asked, COUNT)
        assert found.items.dtype == np.int32 and found.scores.dtype == np.float32
        assert found.items.shape == found.scores.shape == (20, COUNT)
        for row, (items, scores) in enumerate(zip(found.items, found.scores, strict=True)):
            real = items[items >= 0]
            assert (items[len(real) :] == -1).all() and (scores[len(real) :] == -np.inf).all()
            assert len(set(real.tolist())) == len(real)
            assert known().catalogue[real].all() and COLD not in real
            assert not set(real.tolist()) & set(asked.exclude.take(np.array([row])).values.tolist())
            assert (np.diff(scores[: len(real)]) <= 0).all()

    def test_scores_are_those_that_candidates_are_ordered_by(self, name: str) -> None:
        asked = of_users()
        found = fitted(name).candidates(asked, COUNT)
        scores = fitted(name).score(asked, found.items)
        present = found.items >= 0
        np.testing.assert_array_equal(scores[present], found.scores[present])

    @pytest.mark.parametrize("share", [2, 7, 1000])
    def test_within_some_items_the_order_is_that_of_all(self, name: str, share: int) -> None:
        asked = of_users()
        size = len(known().catalogue)
        mask = np.arange(size) % share == 0
        every = fitted(name).candidates(asked, size)
        some = fitted(name).within(mask).candidates(asked, size)
        for row in range(20):
            kept = every.items[row][mask[every.items[row]] & (every.items[row] >= 0)]
            np.testing.assert_array_equal(some.items[row][: len(kept)], kept)
            assert (some.items[row][len(kept) :] == -1).all()
            present = np.isin(every.items[row], kept)
            np.testing.assert_array_equal(some.scores[row][: len(kept)], every.scores[row][present])
        scores = fitted(name).within(mask).score(asked, every.items)
        np.testing.assert_array_equal(scores, fitted(name).score(asked, every.items))

    def test_nobody_depends_on_the_others_of_a_batch(self, name: str) -> None:
        asked = of_users()
        items = np.tile(np.arange(40, dtype=np.int32), (20, 1))
        together = fitted(name).candidates(asked, COUNT), fitted(name).score(asked, items)
        for row in range(20):
            one = asked.take(np.array([row]))
            alone = fitted(name).candidates(one, COUNT)
            np.testing.assert_array_equal(alone.items[0], together[0].items[row])
            np.testing.assert_array_equal(alone.scores[0], together[0].scores[row])
            scores = fitted(name).score(one, items[:1])
            np.testing.assert_array_equal(scores[0], together[1][row])

    def test_padding_empty_batches_and_more_than_there_are(self, name: str) -> None:
        none = requests()
        assert fitted(name).candidates(none, 5).items.shape == (0, 5)
        assert fitted(name).score(none, np.empty((0, 5), np.int32)).shape == (0, 5)
        asked = requests([], [1, 2])
        assert fitted(name).candidates(asked, 300).items.shape == (2, 300)
        scores = fitted(name).score(asked, np.full((2, 3), -1, np.int32))
        assert np.isfinite(scores).all()

    def test_arrays_make_it_again(self, name: str) -> None:
        source = fitted(name)
        again = from_arrays(name, source.shape, dict(source.arrays()))
        asked = of_users()
        for ours, theirs in zip(
            (source.candidates(asked, COUNT).items, source.score(asked, asked.user[:, None])),
            (again.candidates(asked, COUNT).items, again.score(asked, asked.user[:, None])),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
        fewer = {**source.arrays()}
        fewer.popitem()
        with pytest.raises(ValueError, match=f"source {name} of shape {source.shape} needs"):
            from_arrays(name, source.shape, fewer)

    def test_the_same_seed_gives_the_same_source(self, name: str) -> None:
        first, again = fitted(name), settings(name).source(known(), 0)
        for key, array in first.arrays().items():
            np.testing.assert_array_equal(array, again.arrays()[key])

    def test_it_learns_from_the_snapshot_alone(self, name: str) -> None:
        """What data hold beside the snapshot's interactions is not looked at."""
        data, folds = small()
        before = (folds.fold == TRAIN) & (data.interactions.item != COLD)
        past = data.interactions.take(before)
        alone = snapshot(_with(data, past), np.ones(len(past), bool), folds.t1, 7)
        source = settings(name).source(alone, 0)
        for key, array in fitted(name).arrays().items():
            np.testing.assert_array_equal(array, source.arrays()[key])

    def test_few_users_and_items_are_enough(self, name: str) -> None:
        tiny = _snapshot(events(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0])), 3, 3)
        kind = SOURCES[name]
        sizes: dict[str, Any] = {
            key: 1 for key in ("factors", "rank", "neighbours") if key in QUICK.get(name, {})
        }
        table = {"name": name, **QUICK.get(name, {}), **sizes}
        found = kind.model_validate(table).source(tiny, 0).candidates(requests([0], []), 3)
        assert found.items.shape == (2, 3)

    def test_the_settings_that_nobody_set_are_picked(self, name: str) -> None:
        data, folds = small()
        window = validation_holdout(data, folds, known())
        tuned = SOURCES[name].model_validate({"name": name}).tuned(window, 7, 10, 0)
        assert isinstance(tuned, SOURCES[name])
        left = [key for key, value in dict(tuned).items() if value is None]
        assert left in ([], ["quota"])


@pytest.mark.parametrize("name", [name for name in FITTED if name in BASELINES])
def test_it_ranks_as_the_baseline_of_its_name(name: str) -> None:
    """Up to how users are described: by factors of their own, or by their history."""
    baseline = BASELINES[name].model_validate({"name": name, **QUICK.get(name, {})})
    asked = of_users(60)
    score = baseline.fit(known(), 7, 0)
    exclude = asked.exclude if name != "buy_again" else Ragged.empty(60)
    theirs = rank_scores(
        score, asked.user, known().catalogue & known().inputs.warm_items, exclude, 5
    )
    ours = fitted(name).candidates(Queries(asked.user, asked.history, exclude), 5).items
    rows = [(a[a >= 0], b) for a, b in zip(ours, theirs, strict=True) if (a >= 0).any()]
    share = np.mean([np.isin(a, b).mean() for a, b in rows])
    assert len(rows) > 30
    # Where nothing has a weight, a source proposes nothing, and a baseline any item.
    assert share > (0.8 if name == "als" else 0.97)


def test_the_history_of_a_request_counts_and_an_item_of_it_once() -> None:
    for name in ("als", "svd", "ease", "slim", "itemknn"):
        source = fitted(name)
        items = np.arange(40, dtype=np.int32)[None]
        one, twice, other = (
            source.score(requests(history), items) for history in ([5, 9], [9, 5, 9], [6])
        )
        np.testing.assert_array_equal(one, twice)
        assert (one != other).any()


def test_a_source_that_lacks_something_is_left_out_or_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    zeros = np.zeros(4, np.int64)
    one_time = Interactions.ordered(zeros, zeros, zeros, np.ones(4))
    moment = _snapshot(one_time, 1, 1)
    sources = tuple(settings(name) for name in ("popularity", "trending"))
    with caplog.at_level("INFO"):
        assert suitable(sources, moment, named=False) == sources[:1]
    assert "source trending is left out: it needs times" in caplog.text
    with pytest.raises(ValueError, match=r"source trending cannot be fitted .* take it out"):
        suitable(sources, moment, named=True)


def test_the_towers_are_not_fitted_as_the_others_are() -> None:
    some = [SOURCES["tower"].model_validate({}), settings("popularity")]
    assert list(fit_sources(some, known(), 0)) == ["popularity"]


def test_a_vector_source_solves_the_least_squares_of_a_user() -> None:
    """`min |p - Y x|^2` with confidences, and 1 where the history is (Hu et al., equation 4)."""
    source: Any = fitted("als")
    history = [4, 11, 30]
    y = source.items.astype(np.float64)
    confidence = np.ones(len(y))
    confidence[history] = 10
    taken = np.zeros(len(y))
    taken[history] = 1
    left = y.T @ (confidence[:, None] * y) + 1.0 * np.eye(y.shape[1])
    expected = np.linalg.solve(left, y.T @ (confidence * taken))
    found = source.users(Ragged.from_rows([history]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)


def test_the_strongest_weights_are_kept() -> None:
    from train.sources.item_to_item import ItemToItemSource

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((30, 30)).astype(np.float32)
    everything = np.ones(30, bool)
    whole = ItemToItemSource.strongest(weights, np.arange(30), everything, 30)
    some = ItemToItemSource.strongest(weights, np.arange(30), everything, 5)
    items = np.arange(30, dtype=np.int32)[None]
    for item in range(30):
        full = whole.score(requests([item]), items)[0]
        np.testing.assert_allclose(full, weights[item], rtol=1e-6)
        kept = some.score(requests([item]), items)[0]
        largest = np.argsort(-np.abs(weights[item]))[:5]
        assert set(np.flatnonzero(kept)) == set(largest)
        np.testing.assert_array_equal(kept[largest], full[largest])


def _with(data: Any, interactions: Interactions) -> Any:
    from dataclasses import replace

    return replace(data, interactions=interactions)


def _snapshot(interactions: Interactions, users: int, items: int) -> Snapshot:
    from dataclasses import replace

    as_of = int(interactions.timestamp.max()) + 1
    return replace(
        known(),
        interactions=interactions,
        as_of=as_of,
        histories=Ragged.from_pairs(interactions.user, interactions.item, users),
        statistics=Statistics.from_interactions(interactions, users, items, as_of),
        inputs=plain_inputs(users, items),
        catalogue=_all(items),
    )


def _all(count: int) -> Array:
    return np.ones(count, dtype=bool)


@pytest.mark.parametrize("confidence", [1.0, 10.0])
def test_a_user_is_folded_in_alone_as_among_many(confidence: float) -> None:
    """Bit for bit, where a batch is large enough for other code of a product of matrices."""
    rng = np.random.default_rng(0)
    items = (rng.normal(size=(900, 48)) / 7).astype(np.float32)
    folding = np.linalg.inv(items.T @ items + 30 * np.eye(48)).astype(np.float32)
    source = VectorSource(items, np.ones(900, bool), folding, np.array(confidence))
    lengths = rng.integers(0, 90, 700)
    history = Ragged.from_rows([rng.integers(0, 900, length).tolist() for length in lengths])
    together = source.users(history)
    for row in range(0, 700, 7):
        alone = source.users(history.take(np.array([row])))
        np.testing.assert_array_equal(alone[0], together[row])
    assert (together[lengths == 0] == 0).all()

"""Candidate features against their definitions, and what they may depend on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.linear_score import LinearModel, LinearScore
from train.data.statistics import DAY, Statistics
from train.index.candidates import Candidates, Queries
from train.rerankers.candidate_rows import CandidateRows, candidate_rows
from train.rerankers.feature_tables import MAX_CODES, MAX_COLUMNS
from train.rerankers.features import (
    DECAY,
    HISTORY,
    RECENT,
    FeatureInputs,
    candidate_features,
    feature_names,
)

USERS, ITEMS, WIDTH, VOCABULARY = 12, 40, 6, 7
AS_OF = 200 * DAY
LINEAR = LinearScore(rank=5, weighted=True)


def _interactions(rng: np.random.Generator, count: int = 400) -> Interactions:
    return Interactions.ordered(
        rng.integers(0, USERS - 1, count),  # the last user has none
        rng.integers(0, ITEMS, count),
        rng.integers(0, AS_OF, count),
        rng.integers(1, 6, count),
    )


def _features(rng: np.random.Generator, count: int, columns: int = 3) -> Features:
    return Features(
        rng.standard_normal((count, columns)).astype(np.float32),
        tuple(f"column{i}" for i in range(columns)),
        Ragged.from_rows([rng.permutation(VOCABULARY)[: i % 4].tolist() for i in range(count)]),
        tuple(f"genre={i}" for i in range(VOCABULARY)),
    )


def _catalogue(interactions: Interactions, seed: int = 0) -> FeatureInputs:
    rng = np.random.default_rng(seed)
    return FeatureInputs(
        rng.standard_normal((ITEMS, WIDTH)).astype(np.float32),
        _features(rng, ITEMS),
        _features(rng, USERS, columns=1),
        Statistics.from_interactions(interactions, USERS, ITEMS, AS_OF),
        LINEAR.fit(interactions.take(interactions.timestamp < AS_OF), USERS, ITEMS),
    )


def _queries(interactions: Interactions) -> Queries:
    known = interactions.take(interactions.timestamp < AS_OF)
    histories = Ragged.from_pairs(known.user, known.item, USERS)
    user = np.append(np.arange(USERS), -1).astype(np.int32)
    history = histories.take(user[:-1])
    stranger = Ragged.from_rows([[3, 5, 3]])
    rows = Ragged(
        np.concatenate([history.values, stranger.values]),
        np.append(history.offsets, history.offsets[-1] + 3),
    )
    return Queries(user, rows, rows)


def _candidates(rng: np.random.Generator, width: int = 15) -> Candidates:
    items = np.argsort(rng.random((USERS + 1, ITEMS)), axis=1)[:, :width].astype(np.int32)
    scores = -np.sort(-rng.standard_normal(items.shape)).astype(np.float32)
    return Candidates(items, scores)


def _close(ours: Array, expected: Array) -> None:
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


class _Case:
    """A small catalogue with its queries, and the features by name, each `[B, C]`."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.interactions = _interactions(rng)
        self.catalogue = _catalogue(self.interactions, seed)
        self.queries = _queries(self.interactions)
        self.vectors = rng.standard_normal((USERS + 1, WIDTH)).astype(np.float32)
        self.candidates = _candidates(rng)

    def features(self) -> Array:
        return candidate_features(self.catalogue, self.queries, self.candidates)

    def named(self) -> dict[str, Array]:
        columns = self.features().T.reshape(-1, *self.candidates.items.shape)
        return dict(zip(feature_names(self.catalogue), columns, strict=True))

    def history(self, query: int) -> Array:
        offsets = self.queries.history.offsets
        return self.queries.history.values[offsets[query] : offsets[query + 1]][-HISTORY:]


@pytest.fixture(scope="module")
def case() -> _Case:
    return _Case()


def test_float32_in_fortran_order_and_finite(case: _Case) -> None:
    features = case.features()
    assert features.shape == ((USERS + 1) * 15, len(feature_names(case.catalogue)))
    assert features.dtype == np.float32
    assert features.flags.f_contiguous
    assert np.isfinite(features).all()


def test_every_name_once(case: _Case) -> None:
    names = feature_names(case.catalogue)
    assert len(set(names)) == len(names)


def test_retrieval(case: _Case) -> None:
    named, scores = case.named(), case.candidates.scores
    np.testing.assert_array_equal(named["retrieval_score"], scores)
    np.testing.assert_allclose(named["retrieval_gap"], scores[:, :1] - scores)
    np.testing.assert_allclose(named["retrieval_rank"][3], np.log1p(np.arange(15)), rtol=1e-6)


def test_popularity_and_times(case: _Case) -> None:
    named, items = case.named(), case.candidates.items
    known = case.catalogue.statistics
    relative = known.item_count / known.item_count.mean()
    recent = known.item_recent[0] / known.item_recent[0].mean()
    expected = {
        "popularity": np.log1p(relative),
        "popularity_7d": np.log1p(recent),
        "trend_7d": np.log((recent + 0.1) / (relative + 0.1)),
        "item_age": np.log1p((AS_OF - known.item_first) / DAY),
        "item_idle_days": np.log1p((AS_OF - known.item_last) / DAY),
        "item_column1": case.catalogue.item_features.dense[:, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(named[name], values[items], rtol=1e-4, atol=1e-6, err_msg=name)
    order = known.popular(recent=True).tolist()
    assert named["popularity_rank"][2, 4] == pytest.approx(np.log1p(order.index(items[2, 4])))


def test_user(case: _Case) -> None:
    named, known = case.named(), case.catalogue.statistics
    idle = np.log1p((AS_OF - known.user_last) / DAY)
    dense = case.catalogue.user_features.dense[:, 0]
    relative = np.log1p(known.item_count / known.item_count.mean())
    for query in range(USERS):
        history = case.history(query)
        length = case.queries.history.lengths[query]
        mean = relative[history].mean() if len(history) else 0.0
        np.testing.assert_allclose(named["user_activity"][query], np.log1p(length), rtol=1e-5)
        np.testing.assert_allclose(named["user_idle_days"][query], idle[query], rtol=1e-5)
        np.testing.assert_allclose(named["user_column0"][query], dense[query], rtol=1e-5)
        np.testing.assert_allclose(named["history_popularity"][query], mean, rtol=1e-4)
    assert named["user_column0"][-1].tolist() == [0.0] * 15
    assert named["user_activity"][-1, 0] == pytest.approx(np.log1p(3))


def test_a_longer_history_counts_as_activity_and_is_compared_by_its_newest_items(
    case: _Case,
) -> None:
    rng = np.random.default_rng(0)
    long = rng.integers(0, ITEMS, HISTORY + 20)
    history = Ragged.from_rows([long.tolist(), long[-HISTORY:].tolist()])
    queries = Queries(np.array([-1, -1], np.int32), history, history)
    same = [0, 0]
    candidates = Candidates(case.candidates.items[same], case.candidates.scores[same])
    columns = candidate_features(case.catalogue, queries, candidates).T
    names = feature_names(case.catalogue)
    named = dict(zip(names, columns.reshape(len(names), 2, -1), strict=True))
    for row, length in enumerate((HISTORY + 20, HISTORY)):
        np.testing.assert_allclose(named["user_activity"][row], np.log1p(length), rtol=1e-6)
    # The linear score is of all items of a history.
    for name in set(names) - {"user_activity", "linear_score"}:
        np.testing.assert_array_equal(named[name][0], named[name][1], err_msg=name)
    assert (named["linear_score"][0] != named["linear_score"][1]).any()


def test_similarity_to_the_history(case: _Case) -> None:
    named = case.named()
    vectors = case.catalogue.item_vectors
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for query in (0, 4, USERS):
        similar = units[case.candidates.items[query]] @ units[case.history(query)].T
        recent = np.pad(similar, ((0, 0), (RECENT, 0)))[:, -RECENT:]
        _close(named["similarity_mean"][query], similar.mean(axis=1))
        _close(named["similarity_max"][query], recent.max(axis=1))
        _close(named["similarity_last"][query], similar[:, -1])


def test_neighbours_of_the_history(case: _Case) -> None:
    named, known = case.named(), case.catalogue.statistics
    weights: Array = np.zeros((ITEMS, ITEMS))
    rows = np.arange(ITEMS)[:, None]
    np.add.at(weights, (rows, known.neighbours), known.neighbour_weights)
    for query in range(USERS + 1):
        history, items = case.history(query), case.candidates.items[query]
        own = weights[history][:, items]
        fade = DECAY ** np.arange(len(history) - 1, -1, -1)
        np.testing.assert_allclose(named["neighbours"][query], own.sum(axis=0), rtol=1e-4)
        np.testing.assert_allclose(named["neighbours_recent"][query], fade @ own, rtol=1e-4)


def test_categories(case: _Case) -> None:
    named = case.named()
    codes = case.catalogue.item_features.categories
    table: Array = np.zeros((ITEMS, VOCABULARY))
    table[codes.rows, codes.values] = 1
    weights = np.log((ITEMS + 1) / (table.sum(axis=0) + 1)) + 0.1
    for query in (1, USERS):
        share = table[case.history(query)].mean(axis=0)
        own = table[case.candidates.items[query]]
        dots = (own * weights) @ (share * weights)
        norms = np.linalg.norm(own * weights, axis=1) * np.linalg.norm(share * weights)
        cosine = dots / np.maximum(norms, 1e-9)
        _close(named["category_share"][query], own @ share)
        _close(named["category_max"][query], (own * share).max(axis=1))
        _close(named["category_cosine"][query], cosine)


def test_attributes(case: _Case) -> None:
    named, dense = case.named(), case.catalogue.item_features.dense
    for query in (2, USERS):
        taste = dense[case.history(query)].mean(axis=0)
        own = dense[case.candidates.items[query]]
        cosine = own @ taste / np.linalg.norm(own, axis=1) / np.linalg.norm(taste)
        np.testing.assert_allclose(named["attribute_cosine"][query], cosine, rtol=1e-3)
        np.testing.assert_allclose(
            named["gap_column2"][query], np.abs(own[:, 2] - taste[2]), rtol=1e-4, atol=1e-6
        )


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_nothing_after_the_time_of_the_queries_counts(seed: int) -> None:
    case = _Case(seed)
    rng = np.random.default_rng(seed + 1)
    later = _interactions(rng)
    parts = [
        np.concatenate([getattr(case.interactions, name), values])
        for name, values in (
            ("user", later.user),
            ("item", later.item),
            ("timestamp", later.timestamp + AS_OF),
            ("weight", later.weight),
        )
    ]
    leaky = Interactions.ordered(*parts)
    before = case.features()
    case.catalogue = _catalogue(leaky, seed)
    case.queries = _queries(leaky)
    np.testing.assert_array_equal(before, case.features())


def test_a_query_does_not_depend_on_its_batch(case: _Case) -> None:
    columns = case.features().T.reshape(-1, *case.candidates.items.shape)
    for query in range(USERS + 1):
        row = np.array([query])
        one = candidate_features(
            case.catalogue,
            Queries(
                case.queries.user[row],
                case.queries.history.take(row),
                case.queries.exclude.take(row),
            ),
            Candidates(case.candidates.items[row], case.candidates.scores[row]),
        )
        np.testing.assert_array_equal(columns[:, query], one.T)


def test_linear_score(case: _Case) -> None:
    """Weighted for what was known of a user, once for what comes with a request."""
    known, model = case.interactions, case.catalogue.linear_score
    relative = known.weight / known.weight[known.timestamp < AS_OF].mean()
    before = known.timestamp < AS_OF
    taken = np.zeros((USERS + 1, ITEMS))
    np.add.at(taken, (known.user[before], known.item[before]), relative[before])
    taken[-1, [3, 5]] = 1
    scores = np.take_along_axis(taken @ model.encode @ model.decode.T, case.candidates.items, 1)
    apart = scores - scores.mean(axis=1, keepdims=True)
    expected = apart / np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(case.named()["linear_score"], expected, rtol=1e-3, atol=1e-4)


def test_without_a_model_there_is_no_linear_score(case: _Case) -> None:
    plain = replace(case.catalogue, linear_score=LinearModel.none())
    names = feature_names(plain)
    assert "linear_score" not in names
    features = candidate_features(plain, case.queries, case.candidates)
    named = case.named()
    for name, column in zip(names, features.T, strict=True):
        np.testing.assert_array_equal(column, named[name].ravel(), err_msg=name)


def test_padding_does_not_move_the_linear_score(case: _Case) -> None:
    items, scores = case.candidates.items.copy(), case.candidates.scores.copy()
    items[:, 9:], scores[:, 9:] = -1, -np.inf
    fewer = Candidates(items[:, :9], scores[:, :9])
    place = feature_names(case.catalogue).index("linear_score")
    padded = candidate_features(case.catalogue, case.queries, Candidates(items, scores))[:, place]
    alone = candidate_features(case.catalogue, case.queries, fewer)[:, place]
    np.testing.assert_allclose(
        padded.reshape(items.shape)[:, :9].ravel(), alone, rtol=1e-5, atol=1e-5
    )


def test_without_attributes_their_features_are_not_there(case: _Case) -> None:
    plain = replace(
        case.catalogue, item_features=Features.empty(ITEMS), user_features=Features.empty(USERS)
    )
    names = feature_names(plain)
    assert not [name for name in names if name.startswith(("category", "attribute", "gap"))]
    features = candidate_features(plain, case.queries, case.candidates)
    assert features.shape[1] == len(names)
    named = case.named()
    for name, column in zip(names, features.T, strict=True):
        np.testing.assert_array_equal(column, named[name].ravel(), err_msg=name)


def test_wide_attributes_are_cut(case: _Case) -> None:
    rng = np.random.default_rng(0)
    wide = Features(
        rng.standard_normal((ITEMS, 40)).astype(np.float32),
        tuple(f"clip_{i}" for i in range(40)),
        Ragged.from_rows([list(range(VOCABULARY)) * 3] * ITEMS),
        tuple(f"genre={i}" for i in range(VOCABULARY)),
    )
    catalogue = replace(case.catalogue, item_features=wide)
    names = feature_names(catalogue)
    assert sum(name.startswith("item_clip_") for name in names) == MAX_COLUMNS
    assert len(catalogue.tables.codes) == MAX_CODES
    features = candidate_features(catalogue, case.queries, case.candidates)
    assert features.shape[1] == len(names) and np.isfinite(features).all()


def test_pairs_leave_padding_out(case: _Case) -> None:
    items, scores = case.candidates.items.copy(), case.candidates.scores.copy()
    items[0, 4:], scores[0, 4:] = -1, -np.inf
    items[5, :], scores[5, :] = -1, -np.inf
    whole = candidate_rows(case.catalogue, case.queries, case.vectors, case.candidates)
    found = candidate_rows(case.catalogue, case.queries, case.vectors, Candidates(items, scores))
    real = (items >= 0).ravel()
    assert isinstance(found, CandidateRows) and found.features.flags.f_contiguous
    np.testing.assert_array_equal(found.item, items.ravel()[real])
    np.testing.assert_array_equal(found.query, whole.query[real])
    # The linear score is over the candidates that there are.
    alone = np.array(feature_names(case.catalogue)) != "linear_score"
    np.testing.assert_array_equal(found.features[:, alone], whole.features[real][:, alone])
    assert len(whole.item) == items.size


def test_no_queries(case: _Case) -> None:
    none = Queries(np.empty(0, np.int32), Ragged.empty(0), Ragged.empty(0))
    empty = Candidates(np.empty((0, 5), np.int32), np.empty((0, 5), np.float32))
    features = candidate_features(case.catalogue, none, empty)
    assert features.shape == (0, len(feature_names(case.catalogue)))

"""What users had before: counts, times, the source `buy_again`, and what each `seen` recommends."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.bundles import make_recommender
from tests.training import make_job, small, validation
from train.baselines.buy_again import BuyAgain
from train.config import DEFAULT_BASELINES, DEFAULT_SOURCES, Run
from train.core.ragged import Ragged
from train.core.schema import Interactions, Seen
from train.data.repeats import DAY, UNIT, Repeats
from train.data.snapshot import Holdout, held_out, snapshot, validation_holdout
from train.data.splits.base import TEST, TRAIN
from train.data.splits.times import Time
from train.evaluation.rankings import rank_systems
from train.evaluation.settings import Evaluation
from train.flags import apply_flags
from train.index.candidates import Queries
from train.index.exact import rank_scores
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request, of_known_users
from train.recommender.retrieval import find_candidates
from train.rerankers.repeat_features import REPEATS, repeat_features
from train.sources.buy_again import BuyAgainSource
from train.sources.fitted import from_arrays
from train.sources.repeats import GIVEN_HALF_LIFE, RepeatSource
from train.trainer.job import Validation
from train.trainer.validation import validation_scores

AS_OF = 100 * DAY
# Of user, item, day: user 0 has item 1 three times and item 2 once; user 2 has nothing.
ROWS = np.array([(0, 1, 40), (0, 1, 60), (0, 2, 60), (0, 1, 80), (1, 2, 90), (1, 2, 95)])


def events(rows: np.ndarray = ROWS) -> Interactions:
    user, item, day = rows.T
    return Interactions.ordered(user, item, day * DAY, np.ones(len(rows)))


def test_counts_days_and_intervals_by_hand():
    found = Repeats.of(events(), 3, 4, AS_OF)
    assert found.items.tolist() == [1, 2, 2]
    assert found.offsets.tolist() == [0, 2, 3, 3]
    assert found.count.tolist() == [3, 1, 2]
    assert found.days.tolist() == [20, 40, 5]
    assert found.lengths.tolist() == [4, 2, 0]
    # Visits on days 40, 60 and 80; on 90 and 95; unknown users and those without get the median.
    assert found.interval.tolist() == [20, 5, 12.5, 12.5]
    assert found.rate.tolist() == [0, 1, 0.5, 0]


def test_what_a_request_appends_happened_now():
    repeats = Repeats.of(events(), 3, 4, AS_OF)
    user = np.array([0, 0, -1, 2], dtype=np.int32)
    history = Ragged.from_rows([[1, 1, 2, 1], [1, 1, 2, 1, 2, 3], [3, 3], []])
    counts, days = repeats.counts(user, history, np.tile(np.arange(4), (4, 1)))
    assert counts.tolist() == [[0, 3, 1, 0], [0, 3, 2, 1], [0, 0, 0, 2], [0, 0, 0, 0]]
    assert days.tolist() == [[0, 20, 40, 0], [0, 20, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_features_of_what_the_user_had():
    repeats = Repeats.of(events(), 3, 4, AS_OF)
    queries = of_users([0], [[1, 1, 2, 1]])
    out = np.full((len(REPEATS), 1, 3), np.nan, np.float32)
    assert repeat_features(repeats, queries, np.array([[1, 2, 3]]), out) == len(REPEATS)
    named = dict(zip(REPEATS, out[:, 0], strict=True))
    np.testing.assert_allclose(named["repeat_count"], np.log1p([3, 1, 0]), rtol=1e-6)
    np.testing.assert_allclose(named["repeat_recency"], [1 / 21, 1 / 41, 0], rtol=1e-6)
    np.testing.assert_allclose(named["repeat_intervals"], [np.log(2), np.log(3), 0], rtol=1e-6)
    np.testing.assert_allclose(named["repeat_share"], [0.75, 0.25, 0])
    np.testing.assert_allclose(named["repeat_rate"], [1, 0.5, 0])
    assert repeat_features(None, queries, np.array([[1, 2, 3]]), out) == 0


def test_nothing_from_the_moment_on_counts():
    later = np.concatenate([ROWS, [(0, 3, 100), (1, 2, 101), (2, 0, 150)]])
    with_later = Repeats.of(events(later), 3, 4, AS_OF).arrays()
    for name, array in Repeats.of(events(), 3, 4, AS_OF).arrays().items():
        np.testing.assert_array_equal(array, with_later[name])


def test_baseline_and_source_know_nothing_from_the_moment_on():
    data, folds = small()
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    late = snapshot(data, folds.fold >= TRAIN, folds.t1, 7)
    assert len(late.interactions) > len(known.interactions)
    counts, of_late = (BuyAgain(half_life=9).counts(one) for one in (known, late))
    assert (counts != of_late).nnz == 0
    arrays, of_late = (BuyAgainSource().source(one, 0).arrays() for one in (known, late))
    for name in ("counts", "items", "offsets", "lengths"):
        np.testing.assert_array_equal(arrays[name], of_late[name])


def of_users(user: list[int], history: list[list[int]]) -> Queries:
    rows = Ragged.from_rows(history)
    return Queries(np.array(user, dtype=np.int32), rows, Ragged.empty(len(user)))


def source(half_life: float = 20.0) -> RepeatSource:
    data, folds = small()
    whole = snapshot(data, folds.fold >= TRAIN, int(data.interactions.timestamp.max()) + 1, 7)
    past, n_users, n_items = events(), len(whole.histories), len(whole.catalogue)
    known = replace(
        whole,
        interactions=past,
        as_of=AS_OF,
        histories=Ragged.from_pairs(past.user, past.item, n_users),
        catalogue=np.arange(n_items) != 3,
    )
    fitted = BuyAgainSource(half_life=half_life).source(known, 0)
    assert isinstance(fitted, RepeatSource)
    return fitted


def test_the_source_halves_counts_with_age():
    found = source()
    assert found.items.tolist() == [1, 2, 2]
    ages = [[60, 40, 20], [40], [10, 5]]
    expected = [sum(np.rint(UNIT * 0.5 ** (age / 20)) for age in of) for of in ages]
    assert found.counts.tolist() == expected
    proposed = found.candidates(of_users([0, 1, 2, -1], [[1, 1, 2, 1], [2, 2], [], []]), 3)
    assert proposed.items.tolist() == [[1, 2, -1], [2, -1, -1], [-1, -1, -1], [-1, -1, -1]]


def test_the_source_orders_what_a_request_appends_by_its_place():
    found = source()
    queries = of_users([-1, 0, -1], [[4, 5, 4], [1, 1, 2, 1, 7], [3, 6]])
    proposed = found.candidates(queries, 3)
    # Item 4 is there twice; item 7 now beats a count of .875; item 3 is not in the catalogue.
    assert proposed.items.tolist() == [[4, 5, -1], [7, 1, 2], [6, -1, -1]]
    newest, before = UNIT, np.rint(UNIT * 0.5 ** (2 / GIVEN_HALF_LIFE))
    share = found.popularity[4]
    assert proposed.scores[0, 0] == np.float32((newest + before + share) / UNIT)
    excluded = replace(queries, exclude=Ragged.from_rows([[4], [1], []]))
    assert found.candidates(excluded, 3).items.tolist() == [[5, -1, -1], [7, 2, -1], [6, -1, -1]]


def test_the_source_answers_each_request_by_itself_and_from_its_arrays():
    found = source()
    again = from_arrays("buy_again", found.shape, found.arrays())
    queries = of_users([0, 1, -1], [[1, 1, 2, 1, 7], [2, 2], [5, 4]])
    every, items = found.candidates(queries, 4), np.tile(np.arange(10), (3, 1))
    scores = again.score(queries, items)
    for row in range(3):
        one = queries.take(np.array([row]))
        alone = again.candidates(one, 4)
        np.testing.assert_array_equal(alone.items[0], every.items[row])
        np.testing.assert_array_equal(alone.scores[0], every.scores[row])
        np.testing.assert_array_equal(again.score(one, items[:1])[0], scores[row])
        own = alone.items[0][alone.items[0] >= 0]
        np.testing.assert_array_equal(scores[row, own], alone.scores[0, : len(own)])
        others = np.setdiff1d(items[row], [*own, 3])
        assert scores[row, others].max() < scores[row, own].min()


def recommender(seen: Seen) -> Recommender:
    return replace(make_recommender(users=30, items=60, history=8), seen=seen)


@pytest.mark.parametrize("seen", ["exclude", "allow", "only"])
def test_candidates_and_answers_of_each_mode(seen):
    ours, users = recommender(seen), np.arange(30)
    queries = of_known_users(ours, users)
    found = find_candidates(ours, queries, ours.user_vectors[users], np.full(30, 60)).items
    for user, items in enumerate(found):
        own = set(ours.histories.take(np.array([user])).values) & set(
            np.flatnonzero(ours.catalogue)
        )
        there = set(items[items >= 0])
        assert there.isdisjoint(own) if seen == "exclude" else own <= there
        assert seen != "only" or there == own
    history = ours.histories.take(np.array([3])).values
    gone = ours.items.external(history[:2])
    wanted = Request(user_id=ours.users.external(users[3:4])[0], k=60, exclude=gone)
    answered = [entry["item_id"] for entry in recommend(ours, [wanted])[0]["items"]]
    assert not set(answered) & set(gone)
    assert bool(set(answered) & set(ours.items.external(history))) == (seen != "exclude")


def test_nobody_known_gets_nothing_where_only_repeats_are_recommended():
    (answer,) = recommend(recommender("only"), [Request(k=5)])
    assert (answer["items"], answer["source"]) == ([], "popular")


def test_only_ranks_by_the_same_scores_as_allow():
    users, ranked = np.arange(30), {}
    for seen in ("allow", "only"):
        ours = recommender(seen)
        vectors = ours.user_vectors[users]
        counts = np.full(30, 60)
        ranked[seen] = find_candidates(ours, of_known_users(ours, users), vectors, counts)
    for every, own in zip(ranked["allow"].items, ranked["only"].items, strict=True):
        own = own[own >= 0]
        np.testing.assert_array_equal(every[np.isin(every, own)], own)


def fields_of(events: Interactions) -> list[np.ndarray]:
    return [events.user, events.item, events.timestamp, events.weight]


def repeated() -> tuple[Holdout, Holdout]:
    """Return two holdouts of the same test: repeats allowed, and nothing else."""
    holdouts = []
    for seen in ("allow", "only"):
        data, _ = small()
        once = data.interactions
        # Half of them a second time, at the end of the whole span.
        again = once.take(np.arange(0, len(once), 2))
        both = [
            np.concatenate(part) for part in zip(fields_of(once), fields_of(again), strict=True)
        ]
        both[2][len(once) :] = once.timestamp.max() - np.arange(len(again))
        past = Interactions.ordered(*both)
        data = replace(data, interactions=past)
        folds = Time().folds(past, len(data.users), len(data.items), seen)
        known = snapshot(data, (folds.fold >= TRAIN) & (folds.fold < TEST), folds.t2, 7)
        holdouts.append(held_out(data, folds, known))
        assert validation_holdout(data, folds, known).seen == seen
    return holdouts[0], holdouts[1]


def test_baselines_rank_what_each_mode_ranks():
    allow, only = repeated()
    assert not allow.excluded.values.size
    score = BuyAgain(half_life=30).fit(allow.known, 7, 0)
    users, catalogue = only.users, only.known.catalogue
    ranked = rank_scores(only.rankable(score), users, catalogue, only.excluded, 20)
    for user, items in zip(users, ranked, strict=True):
        assert set(items[items >= 0]) <= set(only.known.histories.take(np.array([user])).values)
    keys = only.relevant.rows * 10_000 + only.relevant.values
    assert len(keys) == len(np.unique(keys))
    past = set(zip(only.known.interactions.user, only.known.interactions.item, strict=True))
    pairs = zip(users[only.relevant.rows], only.relevant.values, strict=True)
    assert all(pair in past for pair in pairs)
    assert len(allow.relevant.values) > len(only.relevant.values) > 0


def test_buy_again_picks_its_half_life_on_what_is_ranked():
    allow, _ = repeated()
    chosen = BuyAgain().tuned(allow, 7, 10, 0)
    assert chosen.half_life in BuyAgain.grid[0]["half_life"]
    assert BuyAgain().settled().half_life == BuyAgain.fallback["half_life"]


def test_systems_are_ranked_alike_with_and_without_seen_items():
    allow, _ = repeated()
    ours = recommender("allow")
    known = replace(allow.known, catalogue=ours.catalogue, histories=ours.histories)
    holdout = Holdout(np.arange(30, dtype=np.int32), ours.histories, known, "allow")
    ranked = rank_systems(ours, holdout, Evaluation(baselines=()), 0)
    for name, items in ranked.unseen.items():
        np.testing.assert_array_equal(items, ranked.all_items[name])


@pytest.mark.parametrize("seen", ["exclude", "allow", "only"])
def test_towers_are_stopped_by_what_is_ranked(seen, monkeypatch):
    monkeypatch.setattr("train.trainer.validation.BLOCK", 7)
    given = validation()
    histories = given.histories.take(np.arange(20))
    few = Validation(given.users[:20], histories, histories, given.catalogue, seen)
    job = make_job(validation=few)
    torch.manual_seed(0)
    scores = validation_scores(job.tower.build(job.inputs), job, k=80)
    # Histories are the ground truth: never ranked, or somewhere in the whole, or alone on top.
    if seen == "exclude":
        assert not scores.any()
    elif seen == "allow":
        assert (scores > 0).all()
        assert scores.min() < 1
    else:
        np.testing.assert_allclose(scores, 1)


DATA = {"data": {"name": "generated"}}


def test_the_past_is_a_source_and_a_baseline_where_repeats_are():
    for seen in ("allow", "only"):
        for run in (Run.model_validate(DATA | {"seen": seen}), apply_flags(DATA, ["--seen", seen])):
            assert run.sources == (*DEFAULT_SOURCES, BuyAgainSource())
            assert run.evaluation.baselines == (*DEFAULT_BASELINES, BuyAgain())
            assert not run.names_sources()
            assert Run.model_validate(run.table()) == run
    plain = Run.model_validate(DATA)
    assert (plain.sources, plain.evaluation.baselines) == (DEFAULT_SOURCES, DEFAULT_BASELINES)
    named = Run.model_validate(DATA | {"seen": "allow", "sources": ["tower"]})
    assert named.names_sources()
    assert [one.name for one in named.sources] == ["tower"]


def test_buy_again_needs_repeats():
    with pytest.raises(ValueError, match="set seen to 'allow' or 'only'"):
        Run.model_validate(DATA | {"sources": ["tower", "buy_again"]})
    data, folds = small()
    known = snapshot(data, folds.fold == TRAIN, folds.t1, 7)
    once = np.unique(known.interactions.user * 1000 + known.interactions.item, return_index=True)[1]
    never = replace(known, interactions=known.interactions.take(np.sort(once)))
    assert BuyAgainSource().lacks(never) == "no user interacted with an item twice"

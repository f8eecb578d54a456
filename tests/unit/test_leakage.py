"""No knowledge of the window or of the test reaches what the reranker learns from; a leak would.

Towers are trained before t1, candidates are described as of t1, and only labels come from the
window [t1, t2). Here that is tried by changing what came later, and by planting the leak.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from tests.training import exact_recommender
from train.core.ragged import Array
from train.core.schema import Interactions
from train.data.encoded import Encoded, encode
from train.data.linear_score import LinearScore
from train.data.snapshot import Holdout, Snapshot, held_out, snapshot, validation_holdout
from train.data.splits.base import TEST, TRAIN, Folds
from train.data.splits.times import Time
from train.datasets.generated import Generated
from train.evaluation.rankings import rank_stages
from train.losses.softmax import InBatchSoftmax
from train.metrics.ranking import per_user
from train.recommender.recommender import Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.recommender.training_rows import labels_of, training_set
from train.rerankers.candidate_rows import CandidateRows, candidate_rows
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.cross_validation import cross_fit, earns
from train.rerankers.features import feature_names
from train.rerankers.training_set import TrainingSet
from train.towers.encode import encode_catalogue, encode_users
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Training, Worker
from train.trainer.loop import train

CANDIDATES = 60
LINEAR = LinearScore(rank=8)
RERANKER = CatBoost(iterations=25, learning_rate=0.15)


@cache
def small() -> tuple[Encoded, Folds]:
    data = encode(Generated(users=500, items=200, interactions=12_000, tastes=8, seed=2).load())
    return data, Time().folds(data.interactions, len(data.users), len(data.items))


def known_at(data: Encoded, folds: Folds, test: bool) -> Snapshot:
    """Return what is known at t1, or when the test begins."""
    if test:
        known = (folds.fold >= TRAIN) & (folds.fold < TEST)
        return snapshot(data, known, folds.t2, 7, linear_score=LINEAR)
    return snapshot(data, folds.fold == TRAIN, folds.t1, 7, linear_score=LINEAR)


def fitted(data: Encoded, known: Snapshot) -> Recommender:
    """Return stage 1 on what is known, its towers trained by the real loop for a few epochs."""
    training = Training(batch_size=256, epochs=4, learning_rate=0.02, weight_decay=1.0)
    tower = TwoTower(width=8, user_id=False)
    job = Job(tower, InBatchSoftmax(), training, 0, known.inputs, known.interactions, stop_after=4)
    model = tower.build(known.inputs)
    model.load_state_dict(train(job, Worker())["model"])
    users = np.arange(len(known.histories))
    vectors = encode_users(model, users, known.histories), encode_catalogue(model)
    return exact_recommender(data, known, *vectors, candidates=CANDIDATES)


@cache
def stage(test: bool = False) -> Recommender:
    return fitted(small()[0], known_at(*small(), test))


def with_other_future(since: int) -> Encoded:
    """Return the data with other items, at other times, from some time on; the same before."""
    data, _ = small()
    events, random = data.interactions, np.random.default_rng(5)
    later = events.timestamp >= since
    item, time = events.item.copy(), events.timestamp.copy()
    item[later] = random.integers(0, len(data.items), later.sum())
    time[later] += random.integers(0, 10**6, later.sum())
    return replace(data, interactions=Interactions.ordered(events.user, item, time, events.weight))


def rows_of(data: Encoded, t1: int, t2: int) -> tuple[CandidateRows, Array]:
    """Return the rows and labels of the reranker's training set, all made anew from the data."""
    folds = Time(at=t2, validation_at=t1).folds(data.interactions, len(data.users), len(data.items))
    known = known_at(data, folds, test=False)
    window = validation_holdout(data, folds, known)
    # Of the same users, whatever they took.
    users = np.flatnonzero(known.inputs.warm_users).astype(np.int32)
    place = np.where(np.isin(users, window.users), np.searchsorted(window.users, users), -1)
    window = Holdout(users, window.relevant.take(place), known)
    training = training_set(fitted(data, known), window)
    return training.rows, training.labels


def test_what_happens_later_changes_labels_and_nothing_else() -> None:
    data, folds = small()
    rows, labels = rows_of(data, folds.t1, folds.t2)
    other, other_labels = rows_of(with_other_future(folds.t1), folds.t1, folds.t2)
    np.testing.assert_array_equal(rows.item, other.item)
    np.testing.assert_array_equal(rows.query, other.query)
    np.testing.assert_array_equal(rows.user_vectors, other.user_vectors)
    np.testing.assert_array_equal(rows.features, other.features)
    assert (labels != other_labels).any()


def test_the_test_changes_not_even_labels() -> None:
    data, folds = small()
    rows, labels = rows_of(data, folds.t1, folds.t2)
    other, other_labels = rows_of(with_other_future(folds.t2), folds.t1, folds.t2)
    np.testing.assert_array_equal(rows.features, other.features)
    np.testing.assert_array_equal(labels, other_labels)


def learned(leaky: bool) -> tuple[float, float]:
    """Return the reranker's NDCG@10 out of fold in the window, and in the test.

    Args:
        leaky: describe the window's candidates as of t2, when it was over: histories and counts
            then have what was taken in it.
    """
    data, folds = small()
    first, last = stage(), stage(test=True)
    window = validation_holdout(data, folds, known_at(data, folds, test=False))
    described, queries = first.described, of_known_users(first, window.users)
    vectors = first.user_vectors[window.users]
    found = find_candidates(first, queries, vectors, np.full(len(vectors), CANDIDATES))
    if leaky:
        described = replace(described, statistics=last.statistics, linear_score=last.linear_score)
        queries = replace(queries, history=last.histories.take(window.users))
    rows = candidate_rows(described, queries, vectors, found)
    labels = labels_of(rows, window.relevant, len(data.items))
    names = feature_names(described)
    training = TrainingSet(rows, labels, first.item_vectors, names, window.relevant)
    judged = earns(training, cross_fit(RERANKER, training))
    model = RERANKER.fit(training)
    test = held_out(data, folds, known_at(data, folds, test=True))
    ranked = rank_stages(replace(last, reranker=model), test.users, 10)["both_stages"]
    return judged["ndcg"], float(per_user(ranked, test.relevant, 10)["ndcg"].mean())


def test_a_planted_leak_shines_in_training_and_fails_in_the_test() -> None:
    honest, leaky = learned(leaky=False), learned(leaky=True)
    assert leaky[0] > honest[0] + 0.3
    assert leaky[1] < honest[1] - 0.05
    # What is honest promises what it keeps.
    assert abs(honest[0] - honest[1]) < 0.1

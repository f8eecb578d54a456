"""Whole runs know at each moment what was known then: others' futures change nothing of them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.driver import (
    CANDIDATES,
    DAY,
    END,
    ITEMS,
    T1,
    T2,
    USERS,
    Events,
    Made,
    changed,
    events,
    joined,
    made,
    make_run,
    some,
    write,
)
from train.core.ragged import Array, Ragged
from train.data.snapshot import TowerInputs
from train.index import hnsw
from train.rerankers.training_set import TrainingSet
from train.steps import prepare, select_holdout
from train.towers.encode import encode_catalogue, encode_users

# Without hnswlib an index is nothing but its vectors.
GRAPH = {"index"} if hnsw.library() else set()
# All that is learned or counted before the test begins.
LEARNED = {
    "select", "losses", "validation", "rows", "described", "labels", "reranker", "judged", "refit",
    "vectors", "histories", "statistics", *GRAPH,
}  # fmt: skip
# All that is learned or counted before the validation window begins.
BEFORE = {"select", "losses", "rows", "described"}
# All that depends on the test.
MEASURED = {
    "data", "test", "popularity", "recent_popularity", "stage_1", "both_stages", "intervals",
    "cuts", "ceiling",
}  # fmt: skip
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Return what runs once over the events of three seeds, served as tested or on everything."""
    folder = tmp_path_factory.mktemp("driver")

    @cache
    def once(seeds: tuple[int, ...], counts: tuple[int, ...], final_fit: str) -> Made:
        name = f"{seeds}-{counts}".translate(str.maketrans("", "", "(), "))
        data = write(folder / name, events(seeds, counts))
        return made(make_run(data, folder, name=f"run{name}-{final_fit}", final_fit=final_fit))

    return lambda seeds=(1, 2, 3), counts=(8, 4, 3), final_fit="before_test": once(
        seeds, counts, final_fit
    )


def test_what_happens_in_the_test_reaches_nothing_that_is_measured(
    ran: Callable[..., Made],
) -> None:
    assert {"data", "test"} <= changed(ran(), ran((1, 2, 9))) <= MEASURED
    assert {"data", "test"} <= changed(ran(), ran((1, 2, 9), (8, 4, 5))) <= MEASURED


def test_what_happens_in_the_window_reaches_no_tower_that_is_selected_and_no_row(
    ran: Callable[..., Made],
) -> None:
    other = ran((1, 8, 9))
    assert changed(ran(), other) >= LEARNED - BEFORE
    assert not changed(ran(), other) & BEFORE


def test_what_happened_before_the_window_is_learned_from(ran: Callable[..., Made]) -> None:
    assert changed(ran(), ran((7, 2, 3))) >= LEARNED


def test_what_is_served_learns_of_the_test_and_what_is_measured_does_not(
    ran: Callable[..., Made],
) -> None:
    tested, served = ran(), ran(final_fit="everything")
    assert changed(tested, served) == {"final", "vectors", "histories", "statistics", *GRAPH}
    assert tested.metrics == served.metrics
    other = changed(served, ran((1, 2, 9), final_fit="everything"))
    assert other >= {"final", "vectors", "histories", "statistics"}
    assert not other & (LEARNED - {"vectors", "index", "histories", "statistics"})


def known(until: int, of: Events | None = None) -> Events:
    """Return what happened before a moment, by user and time."""
    of = of or events()
    order = np.lexsort((of["time"], of["user"]))
    return some(of, order[of["time"][order] < until])


def by_user(of: Events) -> Ragged:
    return Ragged.from_rows([of["item"][of["user"] == user] for user in range(USERS)])


MOMENTS = pytest.mark.parametrize(
    ("final_fit", "until"), [("before_test", T2), ("everything", END)], ids=["refit", "final"]
)


@MOMENTS
def test_histories_are_what_was_known_then(
    ran: Callable[..., Made], final_fit: str, until: int
) -> None:
    found, expected = ran(final_fit=final_fit).bundle.recommender.histories, by_user(known(until))
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.values, expected.values)


@MOMENTS
def test_stored_vectors_are_those_of_each_user_s_own_history(
    ran: Callable[..., Made], final_fit: str, until: int
) -> None:
    bundle, histories = ran(final_fit=final_fit).bundle, by_user(known(until))
    alone = [
        bundle.recommender.encode_users(np.array([user]), histories.take(np.array([user])))
        for user in range(USERS)
    ]
    close(np.concatenate(alone), bundle.recommender.user_vectors)
    close(encode_catalogue(bundle.model()), bundle.recommender.item_vectors)
    # Another user's history makes another vector.
    other = bundle.recommender.encode_users(
        np.arange(USERS), histories.take(np.roll(np.arange(USERS), 1))
    )
    assert (np.abs(other - bundle.recommender.user_vectors).max(axis=1) > 1e-3).all()


def close(found: Array, expected: Array, terms: int = 32, width: int = 8) -> None:
    """Check float32 elements that are the same sums, in whatever order and batch.

    An element is a sum of at most `terms` products, and then one of `width` for a rotation or a
    score, so either is off by at most `terms` epsilons of what `width` of the greatest add up to.
    """
    bound = 2 * terms * EPS * width * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@MOMENTS
def test_statistics_are_as_of_the_moment_they_are_used_at(
    ran: Callable[..., Made], final_fit: str, until: int
) -> None:
    found, past = ran(final_fit=final_fit).bundle.recommender.statistics, known(until)
    now = T2 if until == T2 else past["time"].max() + 1
    assert found.as_of == now
    assert found.recent_days.tolist() == [7, 30]
    np.testing.assert_array_equal(found.item_count, np.bincount(past["item"], minlength=ITEMS))
    np.testing.assert_array_equal(found.user_count, np.bincount(past["user"], minlength=USERS))
    for days, counts in zip((7, 30), found.item_recent, strict=True):
        np.testing.assert_array_equal(counts, recent(past, now, days))
    last = [past["time"][past["item"] == item].max() for item in range(ITEMS)]
    np.testing.assert_array_equal(found.item_last, last)


def recent(past: Events, now: int, days: int) -> Array:
    """Return how often each item was taken in the days before a moment."""
    since = past["time"] >= now - days * DAY
    return np.bincount(past["item"][since], minlength=ITEMS)


def training_set(of: Made) -> TrainingSet:
    """Return the reranker's training set; all users are in the window, so a query is a user."""
    assert of.training is not None
    assert len(of.training.rows.user_vectors) == USERS
    return of.training


def feature(training: TrainingSet, name: str) -> Array:
    """Return a column of the features, `[R]`."""
    return np.asarray(training.rows.features[:, training.feature_names.index(name)])


def test_candidates_are_described_as_of_the_window_s_begin(ran: Callable[..., Made]) -> None:
    training, past = training_set(ran()), known(T1)
    user, item = training.rows.query, training.rows.item
    counts = np.bincount(past["item"], minlength=ITEMS)
    last_of_item, last_of_user = np.zeros(ITEMS), np.zeros(USERS)
    np.maximum.at(last_of_item, past["item"], past["time"])
    np.maximum.at(last_of_user, past["user"], past["time"])
    expected = {
        "popularity": np.log1p(counts / counts.mean())[item],
        "item_idle_days": np.log1p((T1 - last_of_item) / DAY)[item],
        "user_idle_days": np.log1p((T1 - last_of_user) / DAY)[user],
        "user_activity": np.log1p(np.bincount(past["user"], minlength=USERS))[user],
    }
    for days in (7, 30):
        lately = recent(past, T1, days)
        expected[f"popularity_{days}d"] = np.log1p(lately / lately.mean())[item]
    for name, values in expected.items():
        np.testing.assert_allclose(feature(training, name), values, rtol=16 * EPS, err_msg=name)


def select_vectors(of: Made) -> tuple[Array, Array]:
    """Return the vectors of users with what they had before the window, and of items."""
    past, bundle = known(T1), of.bundle
    warm = [
        np.bincount(past[side], minlength=n) > 0 for side, n in (("user", USERS), ("item", ITEMS))
    ]
    model = of.run.tower.build(
        TowerInputs(bundle.recommender.user_features, bundle.recommender.item_features, *warm)
    )
    model.load_state_dict({k: torch.from_numpy(v) for k, v in of.towers["select"].items()})
    users = encode_users(model, np.arange(USERS), by_user(past))
    return users, encode_catalogue(model)


def test_the_reranker_learns_of_the_candidates_of_towers_that_know_nothing_of_the_window(
    ran: Callable[..., Made],
) -> None:
    training, (users, items) = training_set(ran()), select_vectors(ran())
    close(training.rows.user_vectors, users)
    close(training.item_vectors, items)
    scores, past = users @ items.T, known(T1)
    assert len(np.unique(past["item"])) == ITEMS  # all are warm
    scores[past["user"], past["item"]] = -np.inf
    listed = np.zeros(scores.shape, bool)
    listed[training.rows.query, training.rows.item] = True
    assert (listed.sum(axis=1) == CANDIDATES).all()
    worst = np.where(listed, scores, np.inf).min(axis=1)
    assert (worst >= np.where(listed, -np.inf, scores).max(axis=1) - 1e-4).all()
    close(feature(training, "retrieval_score"), scores[training.rows.query, training.rows.item])


def test_labels_are_what_was_taken_in_the_window(ran: Callable[..., Made]) -> None:
    training, of = training_set(ran()), events()
    window = some(of, (of["time"] >= T1) & (of["time"] < T2))
    took = np.zeros((USERS, ITEMS))
    took[window["user"], window["item"]] = 1
    np.testing.assert_array_equal(training.labels, took[training.rows.query, training.rows.item])
    assert 0 < training.labels.sum() < len(training.labels)


@pytest.mark.parametrize("final_fit", ["before_test", "everything"])
def test_vectors_are_turned_onto_those_that_the_reranker_learned_of(
    ran: Callable[..., Made], final_fit: str
) -> None:
    """Turned best, own and other vectors have a symmetric product without negative eigenvalues."""
    of = ran(final_fit=final_fit)
    both = (
        of.bundle.recommender.item_vectors.astype(np.float64),
        training_set(of).item_vectors.astype(np.float64),
    )
    product = both[0].T @ both[1]
    size = np.abs(product).max()
    assert np.abs(product - product.T).max() < 1e-4 * size
    assert np.linalg.eigvalsh(product + product.T).min() > -1e-4 * size
    rotation = of.bundle.model().rotation.numpy()
    before = of.bundle.recommender.item_vectors @ rotation.T
    turned = before.T @ training_set(of).item_vectors
    assert np.abs(turned - turned.T).max() > 1e-2 * size


def with_repeats() -> tuple[Events, Events]:
    """Return events, and the same with what is no recommendation in the window beside them.

    Some users take again what they had before it, some take an item of it once more, and three who
    take nothing in it take again what they had before.
    """
    of = events()
    idle = np.isin(of["user"], (60, 61, 62)) & (of["time"] >= T1) & (of["time"] < T2)
    of = some(of, ~idle)
    _, first = np.unique(of["user"], return_index=True)
    again = some(of, first[(np.arange(USERS) < 30) | np.isin(np.arange(USERS), (60, 61, 62))])
    window = np.flatnonzero((of["time"] >= T1) & (of["time"] < T2))
    twice = some(of, window[(of["user"][window] >= 30) & (of["user"][window] < 60)][::2])
    repeats = joined(again, twice)
    repeats["time"] = np.full(len(repeats["user"]), T2 - 1)
    return of, joined(of, repeats)


def test_repeats_count_for_nothing_in_validation_and_are_learned_of(tmp_path: Path) -> None:
    once, again = (
        made(make_run(write(tmp_path / name, of), tmp_path, name=name))
        for name, of in zip(("once", "again"), with_repeats(), strict=True)
    )
    found = changed(once, again)
    assert not found & {*BEFORE, "validation", "labels", "reranker", "judged"}
    assert found >= {"refit", "histories", "statistics", "vectors"}


def test_the_window_is_what_users_took_in_it_for_the_first_time(tmp_path: Path) -> None:
    once, again = with_repeats()
    run = make_run(write(tmp_path, again), tmp_path)
    window = select_holdout(run, *prepare(run))
    before = window.known
    assert before.as_of == T1
    assert before.interactions.timestamp.max() < T1
    took: dict[int, set[int]] = {}
    inside = some(once, (once["time"] >= T1) & (once["time"] < T2))
    for user, item in zip(inside["user"].tolist(), inside["item"].tolist(), strict=True):
        took.setdefault(user, set()).add(item)
    assert window.users.tolist() == sorted(took)
    for user, row in zip(window.users.tolist(), range(len(window.users)), strict=True):
        items: Any = window.relevant.take(np.array([row])).values.tolist()
        assert sorted(items) == sorted(took[user])

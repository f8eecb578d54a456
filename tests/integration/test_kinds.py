"""A run on kinds of events: what is hidden from a user no system ranks, and no answer has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.driver import DAY, FIRST_ITEM, FIRST_USER, ITEMS, START, T2, USERS, events, joined
from tests.driver import make_run as plain_run
from tests.serving import serving
from tests.waiting import BOUND
from train.bundle.bundle import Bundle, open_bundle
from train.bundle.manifest import digest, read_manifest, write_manifest
from train.config import Run
from train.data.snapshot import Holdout, held_out
from train.evaluate import measure
from train.evaluation.rankings import rank_systems
from train.fit import fit
from train.recommender.answers import recommend
from train.recommender.requests import Request
from train.steps import prepare, refit_snapshot

KINDS = np.array(["buy", "view", "hide"])


def table() -> pa.Table:
    """Return purchases and views, and for each user four items of the own taste that are hidden."""
    of = events()
    rng = np.random.default_rng(0)
    kind = rng.choice(2, len(of["user"]), p=[0.7, 0.3])
    user = np.repeat(np.arange(USERS), 4)
    hidden = {
        "user": user,
        "item": (user % 6 + 6 * rng.integers(0, ITEMS // 6, len(user))).astype(np.int64),
        "time": rng.integers(START + DAY, T2 - DAY, len(user)),
        "weight": np.ones(len(user), np.int64),
    }
    every = joined(of, hidden)
    kind = np.concatenate([kind, np.full(len(user), 2)])
    return pa.table(
        {
            "user_id": every["user"] + FIRST_USER,
            "item_id": every["item"] + FIRST_ITEM,
            "timestamp": every["time"],
            "what": KINDS[kind],
        }
    )


def make_run(place: Path, **changes: Any) -> Run:
    pq.write_table(table(), place / "log.parquet")
    data = {
        "name": "files",
        "interactions": str(place / "log.parquet"),
        "event": "what",
        "events": {"view": 0.2, "buy": 1, "hide": -1},
        "test_events": ["buy"],
    }
    base = plain_run(place, place, **{"seen": "allow", **changes}).table()
    return Run.model_validate(base | {"data": data})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    sources = ["tower", "ease", "recent_popularity"]
    return make_run(place, sources=sources, evaluation={"baselines": ["popularity", "itemknn"]})


@pytest.fixture(scope="module")
def bundle(run: Run) -> Bundle:
    return open_bundle(fit(run))


@pytest.fixture(scope="module")
def test(run: Run) -> Holdout:
    data, folds = prepare(run)
    return held_out(data, folds, refit_snapshot(run, data, folds))


def pairs(users: np.ndarray, items: np.ndarray) -> set[tuple[int, int]]:
    rows = np.repeat(users, items.shape[1])[items.ravel() >= 0]
    return set(zip(rows.tolist(), items[items >= 0].tolist(), strict=True))


def hidden_pairs(bundle: Bundle) -> set[tuple[int, int]]:
    hidden = bundle.recommender.hidden
    assert hidden is not None
    return set(zip(hidden.rows.tolist(), hidden.values.tolist(), strict=True))


def test_no_system_ranks_what_is_hidden(run: Run, bundle: Bundle, test: Holdout) -> None:
    ranked = rank_systems(bundle.recommender, test, run.evaluation, 0)
    forbidden = hidden_pairs(bundle)
    assert len(forbidden) > 3 * USERS
    for rankings in (ranked.unseen, ranked.all_items):
        assert {"popularity", "itemknn", "stage_1", "both_stages"} <= set(rankings)
        for name, items in rankings.items():
            assert not pairs(test.users, items) & forbidden, name
    # Without them, all would rank some: they are of the users' own tastes.
    free = replace(bundle.recommender, hidden=None)
    for name, items in rank_systems(free, test, run.evaluation, 0).unseen.items():
        assert name in ("popularity", "itemknn") or pairs(test.users, items) & forbidden


def test_the_test_counts_purchases_that_are_not_hidden(run: Run, test: Holdout) -> None:
    rows = table().filter(pa.array(table()["timestamp"].to_numpy() >= T2))
    bought = rows.filter(pa.array(np.array(rows["what"]) == "buy"))
    truth = {
        (int(user) - FIRST_USER, int(item) - FIRST_ITEM)
        for user, item in zip(bought["user_id"], bought["item_id"], strict=True)
    }
    found = test.users[test.relevant.rows], test.relevant.values
    counted = set(zip(*(of.tolist() for of in found), strict=True))
    hidden = test.known.hidden
    assert counted == truth - set(zip(hidden.rows.tolist(), hidden.values.tolist(), strict=True))


def test_answers_have_nothing_that_is_hidden(bundle: Bundle) -> None:
    forbidden = hidden_pairs(bundle)
    recommender = bundle.recommender
    users = np.arange(len(recommender.users))
    asked = [Request(user_id=one, k=30) for one in recommender.users.external(users)]
    for user, answer in zip(users, recommend(recommender, asked), strict=True):
        given = recommender.items.index([entry["item_id"] for entry in answer["items"]])
        assert len(given) == 30
        assert not {(int(user), int(item)) for item in given} & forbidden


def test_what_is_served_is_what_is_answered_here(bundle: Bundle) -> None:
    asked = [Request(user_id=FIRST_USER + n, k=20) for n in range(12)]
    asked += [Request(user_id=FIRST_USER, history=[FIRST_ITEM], k=20), Request(k=5)]
    expected = recommend(bundle.recommender, asked)
    with (
        serving(bundle.folder, "--topology", "split") as (url, _),
        httpx.Client(base_url=url, timeout=BOUND) as client,
    ):
        live = [client.post("/recommend", json=one.__dict__).json() for one in asked]
    for ours, theirs in zip(live, expected, strict=True):
        assert [e["item_id"] for e in ours["items"]] == [e["item_id"] for e in theirs["items"]]


def test_a_bundle_is_measured_again_and_weights_count(bundle: Bundle) -> None:
    assert measure(bundle)["systems"] == bundle.manifest["metrics"]["systems"]
    assert bundle.manifest["config"]["train"]["weighted"] is True
    assert bundle.manifest["config"]["data"]["test_events"] == ["buy"]


def test_what_is_hidden_is_an_array_and_older_bundles_have_none(
    bundle: Bundle, tmp_path: Path
) -> None:
    assert "hidden.safetensors" in bundle.manifest["files"]
    for path in bundle.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "hidden.safetensors").unlink()
    found = read_manifest(tmp_path)
    files = {name: digest(tmp_path / name) for name in found["files"] if "hidden" not in name}
    write_manifest(tmp_path, {**found, "format_version": 6, "files": files})
    assert open_bundle(tmp_path).recommender.hidden is None


def test_towers_are_stopped_without_what_is_hidden(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def spied(jobs: Any, *rest: Any) -> Any:
        seen.append(jobs["select"].validation)
        raise KeyboardInterrupt

    monkeypatch.setattr("train.steps.train_here", spied)
    with pytest.raises(KeyboardInterrupt):
        fit(run.model_copy(update={"storage": str(tmp_path)}))
    assert seen[0].hidden is not None
    assert seen[0].hidden.lengths.sum() > len(seen[0].users)

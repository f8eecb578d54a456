"""Tables without times: a whole run, the same for every order of the rows, and what it refuses."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.driver import FIRST_ITEM, FIRST_USER, Made, digests, events, made, make_run
from train.adapt import adapted
from train.config import DEFAULT_SOURCES, Run
from train.data.encoded import encode
from train.evaluate import measure
from train.recommender.answers import recommend
from train.recommender.recommender import BOTH_STAGES
from train.recommender.requests import Request
from train.report.text import render
from train.steps import prepare

TIMED = ("days", "trend", "age")


def table() -> pa.Table:
    of = events()
    ids = {"user_id": of["user"] + FIRST_USER, "item_id": of["item"] + FIRST_ITEM}
    return pa.table({**ids, "rating": of["weight"].astype(np.float32)})


def untimed(folder: Path, rows: pa.Table, /, **changes: Any) -> Run:
    """Return a run on these rows, with nothing said of times."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / "plays.parquet")
    data = {"name": "files", "interactions": str(folder / "plays.parquet"), "weight": "rating"}
    # Another name of the data set, so that the driver's is not laid under it.
    run = make_run(folder, folder, **{"evaluation": {}, **changes})
    keep = run.table() | {"data": data, "split": changes.get("split", "auto")}
    if "baselines" not in changes.get("evaluation", {}):
        del keep["evaluation"]["baselines"]
    return Run.model_validate(keep)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("untimed")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Made:
    return made(untimed(folder / "plain", table()))


@pytest.mark.parametrize("order", ["shuffled", "by item", "by user"])
def test_the_order_of_the_rows_changes_nothing(order: str, folder: Path, plain: Made) -> None:
    rows = table()
    if order == "shuffled":
        rows = rows.take(np.random.default_rng(0).permutation(len(rows)))
    else:
        rows = rows.sort_by([("item_id" if order == "by item" else "user_id", "descending")])
    assert digests(made(untimed(folder / order, rows))) == digests(plain)


def test_the_manifest_and_the_report_say_what_was_used(plain: Made) -> None:
    manifest = plain.bundle.manifest
    assert manifest["config"]["split"]["name"] == "random"
    assert (manifest["data"]["timed"], manifest["data"]["as_of"]) == (False, None)
    names = [baseline["name"] for baseline in manifest["config"]["evaluation"]["baselines"]]
    assert names == ["popularity", "itemknn", "ease", "als"]
    assert {*names, "stage_1", "both_stages"} == set(manifest["metrics"]["systems"])
    text = render(manifest)
    assert "no times: the split is random" in text
    assert "120 of 120 users have several items at their last time" in text
    window = manifest["test_window"]
    assert f"test window {window['rows']:,} rows: 0 of new users, 0 of new items" in text
    assert window["count"] == manifest["metrics"]["interactions"] <= window["rows"]


def test_candidates_are_not_described_by_times(plain: Made) -> None:
    assert plain.training is not None
    names = plain.training.feature_names
    assert not [name for name in names if any(word in name for word in TIMED)]
    assert {"popularity", "popularity_rank", "user_activity", "similarity_last"} <= set(names)
    assert plain.bundle.recommender.statistics.recent_days.tolist() == []


def test_a_bundle_is_measured_again_and_answers(plain: Made) -> None:
    again = measure(plain.bundle)
    assert again["systems"] == plain.metrics["systems"]
    both = replace(plain.bundle.recommender, served=BOTH_STAGES)
    asked = [Request(user_id=FIRST_USER), Request(history=[FIRST_ITEM, FIRST_ITEM + 6]), Request()]
    answers = recommend(both, asked)
    assert [answer["source"] for answer in answers] == ["personal", "history", "popular"]
    assert all(len(answer["items"]) == 10 for answer in answers)


def test_default_sources_and_baselines_are_left_out_with_a_sentence(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = untimed(folder / "defaults", table())
    run = run.model_copy(update={"sources": DEFAULT_SOURCES})
    with caplog.at_level(logging.INFO):
        data, _ = prepare(run)
    text = caplog.text
    assert "test window 360 rows: 0 of new users, 0 of new items, 0 repeats, 360 count" in text
    assert "no column 'timestamp', and data.timestamp names none" in text
    assert "the columns are user_id, item_id, rating" in text
    assert "the split is random, without recent_popularity, trending, features of recency" in text
    kept = [baseline.name for baseline in adapted(run, data).evaluation.baselines]
    assert "recent_popularity" not in kept


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"split": {"name": "time"}}, "the split time needs times"),
        ({"split": {"name": "last_days"}}, "the split last_days needs"),
        ({"sources": ["tower", "trending"]}, "the source trending needs"),
        ({"sources": ["tower", "recent_popularity"]}, "the source recent_popularity needs"),
        ({"evaluation": {"baselines": ["recent_popularity"]}}, "the baseline recent_popularity"),
        ({"evaluation": {"folds": 3}}, "evaluation.folds = 3 needs"),
        ({"train": {"half_life": 30}}, "train.half_life = 30 needs"),
        ({"train": {"context": "before"}}, 'train.context = "before" needs'),
        ({"tower": {"name": "history_transformer", "width": 8}}, "tower history_transformer"),
        (
            {"tower": {"name": "dssm", "width": 8, "encoder": "transformer"}},
            "tower dssm, which reads histories in their order, needs",
        ),
        ({"seen": "only"}, 'seen = "only"'),
        (
            {
                "seen": "allow",
                "evaluation": {"baselines": [{"name": "buy_again", "half_life": 9}], "folds": 2},
            },
            "evaluation.folds = 2; the baseline buy_again need times: name the column",
        ),
    ],
)
def test_what_needs_times_is_refused_where_it_was_named(
    changes: dict[str, Any], named: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match="all interactions have one time, or none") as caught:
        prepare(untimed(folder / "refused", table(), **changes))
    assert named in str(caught.value)


def test_a_feature_that_needs_times_is_refused_where_it_was_named(folder: Path) -> None:
    reranker = {"name": "logit", "features": ["popularity_7d"]}
    with pytest.raises(ValueError, match="candidates have no popularity_7d; available: retrieval"):
        prepare(untimed(folder / "feature", table(), reranker=reranker))


def test_leave_last_draws_the_last_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data, folds = prepare(untimed(folder / "last", table(), split={"name": "leave_last"}))
    assert "120 of 120 users have several items at their last time" in caplog.text
    by_item = table().sort_by("item_id")
    other = encode(untimed(folder / "other", by_item).data.load())
    assert np.array_equal(data.interactions.item, other.interactions.item)
    assert (folds.fold == 2).any()


def test_a_column_that_is_named_has_to_be_there(folder: Path) -> None:
    run = untimed(folder / "missing", table())
    data = run.data.model_copy(update={"timestamp": "time"})
    with pytest.raises(ValueError, match="no column 'time'; it has: user_id, item_id, rating"):
        data.load()


def test_the_usual_column_is_taken_where_it_is_there(folder: Path) -> None:
    rows = table()
    rows = rows.append_column("timestamp", pa.array(np.arange(len(rows))))
    run = untimed(folder / "usual", rows)
    order = run.data.model_copy(update={"timestamp_unit": "order"})
    data, _ = prepare(run.model_copy(update={"data": order}))
    assert data.interactions.timed
    assert data.interactions.timestamp.max() == len(rows) - 1

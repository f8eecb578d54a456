"""Runs compared user by user: who wins, and what cannot be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundles import make_recommender
from train.bundle import bundle, evaluation_arrays
from train.bundle.bundle import BundleError
from train.core.ragged import Array
from train.metrics.bootstrap import bootstrap
from train.metrics.ranking import NAMES
from train.report.compare import compare, render

USERS = 200
SHARED = np.random.default_rng(0).random(USERS)


def write(folder: Path, name: str, ndcg: Array, earned: bool = False, **changes: Any) -> str:
    """Write a planted bundle that measured these users; `changes` are of the test."""
    arrays = {"users": np.arange(USERS), "ndcg.stage_1": ndcg, "ndcg.both_stages": ndcg + 0.25}
    value = {"mean": float(ndcg.mean()), "low": 0.1, "high": 0.9}
    systems = {one: dict.fromkeys(NAMES, value) for one in ("stage_1", "both_stages")}
    test = {"k": 10, "users": USERS, "interactions": 900, "test_sha256": "same"}
    config: dict[str, Any] = {"data": {"name": "files"}, "split": {"days": 7}, "evaluation": {}}
    config["split"] |= changes.pop("split", {})
    facts = {
        "name": name,
        "config": config,
        "metrics": {"systems": systems, **test, **changes},
        "reranker": {"earned": earned},
    }
    parts = make_recommender(30, 40, history=4, reranked=False)
    files = {evaluation_arrays.FILE: evaluation_arrays.to_bytes(arrays)}
    home = folder / name / "bundles"
    return str(home / bundle.write(home, parts, facts, files))


def noisy(gain: float, seed: int) -> Array:
    """Return values of the same users, better by `gain` in the mean, give or take."""
    return SHARED + gain + np.random.default_rng(seed).normal(scale=0.1, size=USERS)


def test_a_small_gain_that_all_users_share_wins(tmp_path: Path) -> None:
    """Unpaired, intervals of 0.04 either way would hide a gain of 0.03."""
    one, other = noisy(0.0, 1), noisy(0.03, 2)
    assert bootstrap(other)[1] < bootstrap(one)[2]
    runs = [write(tmp_path, "one", one), write(tmp_path, "other", other)]
    report = compare(runs)
    assert report["winner"] == report["best"] == "other"
    difference = report["differences"]["one"]
    assert difference["mean"] == pytest.approx((other - one).mean())
    assert 0 < difference["low"] < difference["mean"] < difference["high"]
    assert [run["name"] for run in report["runs"]] == ["other", "one"]
    assert report["level"] == 0.95
    said = render(report)
    assert "winner: other" in said
    assert max(map(len, said.splitlines())) <= 122


def test_chance_has_no_winner(tmp_path: Path) -> None:
    runs = [write(tmp_path, name, noisy(0.0, seed)) for seed, name in enumerate("abc")]
    report = compare(runs)
    assert report["winner"] is None
    assert len(report["differences"]) == 2
    assert report["level"] == 0.975
    assert f"no winner: {report['best']} is not clearly better than" in render(report)


def test_a_run_is_measured_as_it_is_served(tmp_path: Path) -> None:
    """The second stage adds 0.25 to each user, where it earned its place."""
    runs = [write(tmp_path, "skips", SHARED), write(tmp_path, "reranks", SHARED, earned=True)]
    report = compare(runs)
    assert report["winner"] == "reranks"
    assert [run["system"] for run in report["runs"]] == ["both_stages", "stage_1"]
    assert report["differences"]["skips"]["mean"] == pytest.approx(0.25)


def test_a_run_and_its_newest_bundle_are_the_same_and_two_bundles_are_not(tmp_path: Path) -> None:
    old, new = write(tmp_path, "one", SHARED), write(tmp_path, "one", SHARED + 0.5)
    report = compare([old, new])
    assert report["winner"] == f"one {Path(new).name}"
    assert compare([str(tmp_path / "one"), old])["runs"][0]["bundle"] == new
    with pytest.raises(ValueError, match="the same bundle twice"):
        compare([str(tmp_path / "one"), new])


def test_different_tests_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path, "one", SHARED)
    changed: dict[str, Any] = {"test_sha256": "other", "interactions": 800, "split": {"days": 14}}
    other = write(tmp_path, "other", SHARED, **changed)
    wanted = r"900 pairs.*800 pairs.*different tests; compare runs of .* differs: split.days\)"
    with pytest.raises(ValueError, match=wanted):
        compare([one, other])
    with pytest.raises(ValueError, match=r"k 10.*k 20.*different tests"):
        compare([one, write(tmp_path, "cut", SHARED, k=20)])


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two runs or more, got 1"):
        compare([write(tmp_path, "one", SHARED)])


def test_a_bundle_that_keeps_no_users_is_refused(tmp_path: Path) -> None:
    facts = {"name": "old", "metrics": {}, "reranker": {}}
    old = tmp_path / bundle.write(tmp_path, make_recommender(30, 40, reranked=False), facts)
    with pytest.raises(BundleError, match=r"has no evaluation.safetensors: .* fit the run again"):
        compare([str(old), write(tmp_path, "one", SHARED)])

"""The page of a run: whole, self-contained, and what its plots show."""

import base64
import itertools
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from tests.bundles import make_recommender
from tests.unit.test_diagnostics import case
from tests.unit.test_evaluate import evaluated
from train.bundle import bundle, evaluation_arrays
from train.evaluation.diagnostics import diagnose
from train.index.base import IndexSettings
from train.index.build import build_vector_index, sweep
from train.recommender.answers import recommend
from train.recommender.recommender import Recommender
from train.recommender.requests import Request
from train.report import plots
from train.report.examples import example_tables
from train.report.item_map import ItemMap
from train.report.learned import by_source, strongest
from train.report.page import _trained, write_page

NAME = "a <run> & its name"
VOID = {"meta", "img", "br"}


def write(folder: Path, kept: bool = True) -> str:
    """Write a planted bundle with a real report of a test."""
    test = diagnose(*case(), seed=0)
    curve = [{"epoch": n, "loss": 5.0 / n, "ndcg": 0.1 * n, "seconds": 1.0} for n in (1, 2, 3)]
    facts = {
        "name": NAME,
        "config": {"data": {"name": "planted"}, "candidates": 15},
        "metrics": evaluated().report,
        "training": {"epochs": 2, "select": curve},
        "reranker": {"earned": False, "reason": "there is none"},
        "importance": {"measure": "weight", "features": {"source_ease_rank": -2.0, "age": 1.0}},
        "picks": {
            "baselines": [{"name": "ease", "regularization": 500.0}, {"name": "popularity"}],
            "sources": [{"name": "ease", "quota": None, "regularization": 250.0}],
        },
    }
    files = {evaluation_arrays.FILE: evaluation_arrays.to_bytes(test)} if kept else {}
    place = folder / "run" / "bundles"
    return str(
        place
        / bundle.write(place, make_recommender(60, 300, history=6, reranked=False), facts, files)
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("page"))


class Page(HTMLParser):
    """The tags of a page, checked to be closed in order, its images and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: dict[str, str] = {}
        self.words = ""
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag == "img":
            self.images[values["alt"]] = values["src"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def read(path: str | Path) -> Page:
    return Page(Path(path).read_text(encoding="utf-8"))


def test_a_page_has_every_table_and_plot_in_itself(place: str) -> None:
    home = Path(place).parents[1]
    assert write_page(str(home)) == str(home / "report.html")
    page = read(home / "report.html")
    assert [*page.images] == [
        "Systems and their intervals",
        "Learning curves",
        "Scores of pairs",
        "Recall by candidates",
        "Search: recall by time",
        "Importance of features",
        "Map of the items",
    ]
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert not re.search(r"@import|url\(|<script", (home / "report.html").read_text())
    for image in page.images.values():
        assert ET.fromstring(base64.b64decode(image.split(",")[1])).tag.endswith("svg")
    for word in (NAME, "recall@5", "novelty@5", "recent popularity", "Further cuts", "planted"):
        assert word in page.words
    for said in ("regularization 500", "regularization 250", "User 10", "history, newest first"):
        assert said in page.words


def test_the_verdict_stands_in_a_box_below_the_title(place: str) -> None:
    text = Path(write_page(place)).read_text(encoding="utf-8")
    found = re.search(
        r'<h1>.*?</h1>\s*<p class="facts">.*?</p>\s*<div class="box[^>]*>(.*?)</div>', text, re.S
    )
    assert found
    assert "in NDCG@5" in found[1]


def test_features_of_a_source_are_added_up_whatever_their_sign() -> None:
    features = {"source_als_rank": -2.0, "source_als_score": 1.0, "age": 9.0, "source_svd_rank": 5}
    manifest = {"sources": [{"name": "als"}, {"name": "ease"}]}
    assert by_source(features, manifest) == {"als": 3.0}
    assert [*strongest(features, 2)] == ["age", "source_svd_rank"]


def test_users_have_their_newest_items_beside_what_they_are_recommended(place: str) -> None:
    opened = bundle.open_bundle(place)
    known, tables = opened.recommender, [*example_tables(opened)]
    assert len(tables) == 10
    title, _, rows = tables[0]
    user = int(known.users.index([int(title.removeprefix("User "))])[0])
    newest = known.histories.take(np.array([user])).values[::-1]
    names = [title or str(own) for own, title in zip(*known.named(newest), strict=True)]
    assert [row[0] for row in rows if row[0]] == names
    [answer] = recommend(known, [Request(user_id=ids_of(known, user), k=10)])
    expected = [item.get("title") or str(item["item_id"]) for item in answer["items"]]
    assert [row[1] for row in rows] == expected


def ids_of(known: Recommender, user: int) -> Any:
    return known.users.external(np.array([user]))[0]


def test_a_page_goes_where_it_is_told_and_never_into_the_bundle(place: str, tmp_path: Path) -> None:
    to = tmp_path / "new" / "page.html"
    assert write_page(place, str(to)) == str(to)
    assert [path.name for path in to.parent.iterdir()] == ["page.html"]
    assert write_page(place) == str(Path(place).parents[1] / "report.html")
    alone = tmp_path / "alone" / "renamed"
    shutil.copytree(place, alone)
    assert write_page(str(alone)) == str(alone.parent / "report.html")
    assert not (alone / "report.html").exists()


def test_a_bundle_that_keeps_no_users_has_the_other_plots(tmp_path: Path) -> None:
    page = read(write_page(write(tmp_path, kept=False)))
    assert "Scores of pairs" not in page.images
    assert "Map of the items" in page.images


def test_a_bundle_of_nothing_but_vectors_has_a_page(tmp_path: Path) -> None:
    facts = {"name": "bare", "metrics": {}}
    bare = tmp_path / bundle.write(
        tmp_path, make_recommender(8, 12, history=2, reranked=False), facts
    )
    assert [*read(write_page(str(bare))).images] == ["Search: recall by time"]


def drawn(plot: Any, *arguments: Any) -> Figure:
    with rc_context(plots.STYLE):
        figure: Figure = plot(*arguments)
        figure.draw_without_rendering()
    return figure


def many_systems(name: str) -> dict[str, Any]:
    value = {"mean": 0.0401, "low": 0.0346, "high": 0.0514}
    names = [f"{name}_{number}" for number in range(12)]
    systems = {name: {"ndcg": value, "recall": value} for name in [*names, "stage_1"]}
    return {"k": 10, "systems": systems}


def clusters() -> ItemMap:
    place = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    names = [f"a rather long category {number}" for number in range(8)]
    return ItemMap(place, np.arange(200), "category", [*names, "other"], np.arange(200) % 9)


def test_titles_on_a_map_have_room() -> None:
    place = clusters().place
    named = [at % 3 > 0 for at in range(200)]
    chosen = plots.apart(place, named)
    assert 5 < len(chosen) <= plots.LABELS and all(named[at] for at in chosen)
    assert chosen[0] == 1  # the most popular one that has a title
    width, height = np.ptp(place, axis=0) / np.array([4, 30])
    for first, second in itertools.combinations(chosen, 2):
        across, up = np.abs(place[first] - place[second])
        assert across >= width or up >= height
    assert plots.apart(place, []) == []


def plans() -> list[Any]:
    vectors = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
    index = build_vector_index(IndexSettings(), vectors, np.ones(900, bool))
    test = diagnose(*case(), seed=0)
    curve = [{"epoch": n, "loss": 1e5 / n, "ndcg": 1e-4 * n} for n in range(1, 41)]
    return [
        (plots.learning_curves, curve, 17),
        (plots.learning_curves, curve[:1], 1),
        (plots.systems, many_systems("a_baseline_of_a_long_name")),
        (plots.systems, many_systems("short")),
        (plots.score_densities, test),
        (plots.recall_by_count, test, 17),
        (plots.recall_by_time, sweep(index, vectors[:64], 10), 10),
        (plots.items_on_a_plane, clusters(), [f"A title of {at}" for at in range(200)]),
    ]


def test_what_is_written_on_an_axis_has_room() -> None:
    for plot, *arguments in plans():
        figure = drawn(plot, *arguments)
        for side in (side for axis in figure.axes for side in (axis.xaxis, axis.yaxis)):
            labels = [label for label in side.get_ticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in labels]
            pairs = [(a, b) for n, a in enumerate(boxes) for b in boxes[:n]]
            # 8 of 100 pixels an inch between one number and the next.
            assert not any(overlap(a.padded(4, 0), b.padded(4, 0)) for a, b in pairs), plot
            assert not any(overlap(side.label.get_window_extent(), box) for box in boxes), plot


def test_one_epoch_without_a_loss_is_no_curve() -> None:
    at_once = {"epochs": 1, "select": [{"epoch": 1, "seconds": 0.1, "ndcg": 0.2}]}
    stepped = {"epochs": 1, "select": [{"epoch": 1, "seconds": 0.1, "ndcg": 0.2, "loss": 3.0}]}
    assert not list(_trained({"training": at_once}))
    assert list(_trained({"training": stepped}))


def overlap(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and shared.width > 0 and shared.height > 0


def test_plots_show_the_numbers_that_they_are_given() -> None:
    report = evaluated().report
    found = drawn(plots.systems, report)
    dots = [line.get_xdata()[0] for line in found.axes[0].lines if line.get_marker() == "o"]  # type: ignore[index]
    expected = [values["ndcg"]["mean"] for values in report["systems"].values()]
    assert dots[::-1] == pytest.approx(expected)
    test = diagnose(*case(), seed=0)
    line = drawn(plots.recall_by_count, test, 17).axes[0].lines[0]
    np.testing.assert_array_equal(np.asarray(line.get_ydata()), test["recall_mean"])
    steps = drawn(plots.score_densities, test).axes[0].patches[0]
    np.testing.assert_array_equal(steps.get_data().values, test["score_positive"])  # type: ignore[attr-defined]


def test_a_plot_is_the_same_every_time() -> None:
    test = diagnose(*case(), seed=0)
    assert plots.svg(plots.score_densities, test) == plots.svg(plots.score_densities, test)

"""The page of a sweep: what it shows of any records, and that its plots show their numbers."""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.unit.test_page import Page, drawn, overlap, read
from train.report.plots import png, svg
from tune.report import plots, setting_plots
from tune.report.importance import importances, why_not
from tune.report.page import write_page
from tune.report.records import best_so_far, front, log_settings, ranked, shown, values, varied
from tune.report.scales import scale, wrapped
from tune.report.setting_plots import Plotted

Record = dict[str, Any]
ONE = {"ndcg": "max"}
TWO = {"ndcg": "max", "milliseconds": "min"}
NAME = "a <b>sweep</b> & its name"
SPACE = {
    "train": {"learning_rate": {"loguniform": [1e-4, 1e-1]}, "epochs": {"int": [1, 9]}},
    "loss": {
        "choice": [
            {"name": "bpr", "margin": {"uniform": [0, 1]}},
            {"name": "softmax", "temperature": {"loguniform": [0.1, 1]}},
        ]
    },
}
SVG = "data:image/svg+xml;base64,"


def trial(number: int, params: Mapping[str, Any], ndcg: float | None, **changes: Any) -> Record:
    found = {} if ndcg is None else {"ndcg": ndcg, "milliseconds": 10 * ndcg + number % 3}
    curve = [{"epoch": epoch, "ndcg": (ndcg or 0.0) * epoch / 3} for epoch in (1, 2, 3)]
    return {
        "trial": number,
        "overrides": {},
        "params": dict(params),
        "state": "failed" if ndcg is None else "finished",
        "values": found,
        "curve": curve,
        "epochs": 3,
        "best_epoch": 3,
        "seconds": 1.5,
        "reason": "it <i>diverged</i>" if ndcg is None else None,
    } | changes


def sampled(count: int = 24) -> list[Record]:
    """Draw trials of which the loss and its temperature alone decide how good they are."""
    draw = np.random.default_rng(0)
    records = [trial(1, {}, 0.05)]
    for number in range(2, count + 1):
        loss = str(draw.choice(["bpr", "softmax"]))
        params = {"loss": loss, "train.learning_rate": float(10 ** draw.uniform(-4, -1))}
        params |= {"train.epochs": int(draw.integers(1, 10)), "norm": bool(draw.random() < 0.5)}
        inner = float(draw.uniform(0.1, 1))
        params["loss.softmax.temperature" if loss == "softmax" else "loss.bpr.margin"] = inner
        ndcg = 0.1 + 0.1 * inner if loss == "softmax" else 0.01 * inner
        records.append(trial(number, params, ndcg))
    for record in records[4::20]:
        record |= trial(record["trial"], record["params"], None)
    for record in records[6:10:3]:
        record["state"] = "stopped"
    return records


def written(
    folder: Path, records: list[Record], metrics: Mapping[str, str] = ONE, **outcome: Any
) -> Page:
    sweep = {"name": NAME, "run": "shop.toml", "trials": 30, "seed": 7, "search": "tpe"}
    sweep |= {"scheduler": "asha", "space": SPACE, "metrics": metrics}
    assert write_page(str(folder), sweep, records, outcome) == str(folder / "report.html")
    return read(folder / "report.html")


def test_a_page_has_every_plot_in_itself_and_beside_it(tmp_path: Path) -> None:
    page = written(tmp_path, sampled(), TWO, best=3, lines=["Trial 3 is <best> & clear."])
    assert [*page.images] == [
        "Optimization history",
        "Learning curves",
        "Pareto front",
        "Importance of the settings",
        "Settings one by one",
        "Settings side by side",
    ]
    for image in page.images.values():
        assert ET.fromstring(base64.b64decode(image.removeprefix(SVG))).tag.endswith("svg")
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == sorted(
        f"{name}.png"
        for name in ("history", "curves", "pareto", "importance", "slices", "parallel")
    )
    for path in (tmp_path / "plots").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    for words in (
        "24 of 30 trials of shop.toml: 21 finished, 2 stopped early, 1 failed",
        "3 (best)",
    ):
        assert words in page.words


def test_whatever_is_named_stays_text(tmp_path: Path) -> None:
    params = {"<b>loss</b>": "<i>a</i> & b", "x": 1.0}
    records = [trial(n, params | {"x": float(n)}, 0.1 * n) for n in (1, 2)] + [trial(3, {}, None)]
    page = written(tmp_path, records, best=2, lines=["<b>won</b>"])
    text = (tmp_path / "report.html").read_text()
    assert "<b>" not in text and "<i>" not in text
    for words in (NAME, "<b>won</b>", "<b>loss</b> = <i>a</i> & b", "it <i>diverged</i>"):
        assert words in page.words


def test_a_single_trial_has_a_page(tmp_path: Path) -> None:
    page = written(tmp_path, [trial(1, {}, 0.2)], best=1, lines=["There is but one."])
    assert [*page.images] == ["Optimization history", "Learning curves"]
    assert "at least 4 finished trials, and there are 1" in page.words
    assert "the run as it is" in page.words


def test_a_sweep_of_failures_says_why(tmp_path: Path) -> None:
    page = written(tmp_path, [trial(n, {"x": n}, None, curve=[]) for n in (1, 2)])
    assert not page.images
    assert not (tmp_path / "plots").exists()
    assert "nothing to draw" in page.words
    assert page.words.count("it <i>diverged</i>") == 2


def test_a_sweep_of_no_epochs_has_no_curves(tmp_path: Path) -> None:
    records = [trial(n, {"loss": "ab"[n % 2]}, 0.1 * n, curve=[]) for n in range(1, 7)]
    page = written(tmp_path, records)
    assert "Learning curves" not in page.images
    assert "kept no learning curves" in page.words
    assert "Settings one by one" in page.images
    assert "6 (best)" in page.words


def test_equal_values_have_no_importance(tmp_path: Path) -> None:
    page = written(tmp_path, [trial(n, {"x": 0.5 * n}, 0.1) for n in range(1, 7)], TWO)
    assert "Importance of the settings" not in page.images
    assert "all trials reached the same value" in page.words


def test_many_settings_are_cut_to_the_most_important_and_it_says_so(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    names = [f"tower.a_rather_long_section.setting_{n}" for n in range(40)]
    records = [
        trial(n, dict(zip(names, draw.random(40).tolist(), strict=True)), float(draw.random()))
        for n in range(1, 13)
    ]
    page = written(tmp_path, records)
    assert "The 12 most important of 40 settings." in page.words
    assert "Settings side by side" in page.images


def test_a_metric_of_less_is_better_decides_by_the_least(tmp_path: Path) -> None:
    records = [trial(n, {"x": n}, 0.1 * n) for n in (1, 2, 3)]
    page = written(tmp_path, records, {"milliseconds": "min"})
    fewest = min(records, key=lambda record: float(record["values"]["milliseconds"]))
    assert f"{fewest['trial']} (best)" in page.words


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_none(value: float | None) -> None:
    records = [trial(1, {"x": 1}, 0.2), trial(2, {"x": 2}, 0.1)]
    records[0]["values"] = {"ndcg": value}
    np.testing.assert_array_equal(values(records, "ndcg"), [np.nan, 0.1])
    assert ranked(records, {"ndcg": "max"}) == [1]


NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_the_front_is_what_nothing_beats(rows: list[tuple[float, float]]) -> None:
    points = np.array(rows)
    kept = front(points, ["max", "min"])
    for place, (up, down) in enumerate(rows):
        beaten = any(a >= up and b <= down and (a, b) != (up, down) for a, b in rows)
        assert kept[place] != beaten


@given(st.lists(NUMBERS | st.just(float("nan")), min_size=1))
def test_the_best_so_far_is_the_best_of_all_before(found: list[float]) -> None:
    for direction, best in (("max", max), ("min", min)):
        line = best_so_far(np.array(found), direction)
        for end in range(len(found)):
            known = [value for value in found[: end + 1] if value == value]
            assert (line[end] == best(known)) if known else np.isnan(line[end])


MIXED = st.lists(
    st.none()
    | st.booleans()
    | st.integers(1, 10**6)
    | st.floats(1e-9, 1e9)
    | st.text("ab c", max_size=3),
    min_size=1,
    max_size=30,
)


@given(MIXED, st.booleans())
def test_every_value_has_a_place_and_equal_ones_the_same(found: list[Any], log: bool) -> None:
    axis = scale(found, log)
    assert len(axis.places) == len(found)
    assert len(axis.ticks) == len(axis.labels) > 0
    for place in (*axis.places, *axis.ticks):
        assert -1e-6 <= place <= 1 + 1e-6
    for one, other in combinations(range(len(found)), 2):
        if type(found[one]) is type(found[other]) and found[one] == found[other]:
            assert axis.places[one] == axis.places[other]


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=30), st.booleans())
def test_numbers_lie_in_their_order(found: list[float], log: bool) -> None:
    places = scale(found, log).places[np.argsort(found)]
    assert (np.diff(places) >= -1e-9).all()


def test_none_stands_before_the_numbers() -> None:
    found: list[Any] = [None, *np.linspace(10, 300, 12)]
    axis = scale(found)
    assert axis.labels[0] == "none"
    assert axis.places[0] == axis.ticks[0] < axis.places[1:].min()


def test_few_numbers_to_choose_from_have_a_column_each() -> None:
    axis = scale([512, 64, 64, 128, 512, 128])
    assert axis.labels == ["64", "128", "512"]
    np.testing.assert_allclose(np.diff(axis.ticks), axis.gap)


@given(st.text("abc._", max_size=60), st.integers(4, 30), st.integers(1, 3))
def test_a_name_is_wrapped_whole_or_visibly_cut(name: str, width: int, lines: int) -> None:
    rows = wrapped(name, width, lines).split("\n")
    assert len(rows) <= lines
    assert all(len(row) <= width for row in rows)
    assert "".join(rows) == name or any("…" in row for row in rows)


def test_log_ranges_are_found_in_nested_and_dotted_tables() -> None:
    assert log_settings(SPACE) == {"train.learning_rate", "loss.softmax.temperature"}
    assert log_settings({"train.learning_rate": {"loguniform": [1, 2]}}) == {"train.learning_rate"}


def test_settings_that_never_changed_are_not_drawn() -> None:
    records = [trial(n, {"same": 1, "other": n % 2 == 0}, 0.1) for n in (1, 2)]
    assert varied(records) == ["other"]
    assert [shown(record["params"]["other"]) for record in records] == ["false", "true"]


def test_what_decides_is_what_is_important() -> None:
    records = sampled(60)
    shares = importances(records, "ndcg", {"train.learning_rate"})
    assert sum(shares.values()) == pytest.approx(1)
    assert [*shares][:2] == ["loss", "loss.softmax.temperature"]
    assert shares["loss"] > 0.9


def test_importance_takes_trials_and_something_that_varied() -> None:
    assert why_not(sampled(), "ndcg") is None
    assert "at least 4" in str(why_not(sampled()[:3], "ndcg"))
    same = [trial(n, {"x": 1}, 0.1 * n) for n in range(1, 7)]
    assert "more than one value" in str(why_not(same, "ndcg"))


def test_the_history_has_every_trial_the_best_so_far_and_the_failed() -> None:
    records = sampled()
    axis = drawn(plots.history, records, ONE, 2).axes[0]
    line, failed = axis.lines
    np.testing.assert_array_equal(
        np.asarray(line.get_ydata()), best_so_far(values(records, "ndcg"), "max")
    )
    assert list(np.asarray(failed.get_xdata())) == [5]
    counts = {
        str(dots.get_label()): len(np.asarray(dots.get_offsets())) for dots in axis.collections
    }
    assert counts == {"stopped early": 2, "finished": 21, "the best: trial 3": 1}


def test_the_front_is_joined_in_the_order_of_the_second_metric() -> None:
    records = sampled()
    line = drawn(plots.pareto, records, TWO, 2).axes[0].lines[0]
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    assert max(y) == np.nanmax(values(records, "ndcg"))
    assert min(x) == np.nanmin(values(records, "milliseconds"))


def long_named() -> list[Record]:
    draw = np.random.default_rng(1)
    options = [f"an_option_of_a_very_long_name_{n}" for n in range(7)]
    names = [f"loss.in_batch_softmax_of_everything.temperature_of_section_{n}" for n in range(6)]
    return [
        trial(
            n,
            {name: float(10 ** draw.uniform(-6, 3)) for name in names}
            | {"tower.encoder_of_the_other_side": str(draw.choice(options)), "flag": n % 2 == 0}
            | {"train.half_life": None if n % 3 else float(n)},
            float(draw.random()),
        )
        for n in range(1, 31)
    ]


def plans() -> Iterator[tuple[Any, ...]]:
    for records in (sampled(), sampled(4), long_named()):
        names = varied(records)
        logs = {name for name in names if "temperature" in name}
        yield plots.history, records, TWO, 2
        yield plots.learning_curves, records, "ndcg", "max", 2
        yield plots.pareto, records, TWO, 2
        yield setting_plots.importance, dict.fromkeys(names, 1 / len(names))
        plotted = Plotted(records, "ndcg", "max", names, logs, 2)
        yield setting_plots.slices, plotted
        yield setting_plots.parallel, plotted


def texts(figure: Figure) -> list[Text]:
    """Return all that is written in a figure, but for marks outside the ends of an axis."""
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    hidden: set[Text] = set()
    for axis in figure.axes:
        for side, ends in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            for tick, place in zip(side.get_major_ticks(), side.get_majorticklocs(), strict=True):
                if not min(ends) <= place <= max(ends):
                    hidden |= {tick.label1, tick.label2}
    return [t for t in found if t.get_text().strip() and t.get_visible() and t not in hidden]


def test_what_is_written_has_room() -> None:
    for plot, *arguments in plans():
        figure = drawn(plot, *arguments)
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
        for (one, a), (other, b) in combinations(boxes, 2):
            assert not overlap(a, b), (plot.__name__, one, other)
        for one, box in boxes:
            page = figure.bbox.padded(1)
            corners = (page.contains(*box.min), page.contains(*box.max))
            assert all(corners), (plot.__name__, one)


def test_a_plot_is_the_same_every_time() -> None:
    names = varied(sampled())
    plotted = Plotted(sampled(), "ndcg", "max", names, set[str](), 2)
    for save in (svg, png):
        assert save(setting_plots.slices, plotted) == save(setting_plots.slices, plotted)

"""Records of trials, their order and table, and runs written as TOML."""

import tomllib
from typing import Any

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from train.config import Run
from tune.report.records import Record, ranked, unbeaten
from tune.report.text import record, render, settings, toml
from tune.trials.trial import Directions

RUN = Run.model_validate({"data": "generated", "train": {"epochs": 5, "patience": 2}})
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab. é-_"), inner, max_size=3)
    ),
    max_leaves=6,
)


NDCG: Directions = {"ndcg": "max"}


def row(number: int, value: float | None, **changes: Any) -> Record:
    others = {key: changes.pop(key) for key in ("milliseconds",) if key in changes}
    kept: Record = {"trial": number, "overrides": {"train.epochs": 3}, "state": "finished"}
    kept["values"] = {} if value is None else {"ndcg": value, **others}
    return kept | {"epochs": 3, "best_epoch": 2, "seconds": 1.0, "reason": None} | changes


@hypothesis.settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abc._ -é", max_size=4), VALUES, max_size=5))
def test_toml_reads_back_as_what_was_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml(table)) == table


def test_a_run_reads_back_as_it_was() -> None:
    assert Run.model_validate(tomllib.loads(toml(RUN.table()))) == RUN


def test_a_trial_that_was_stopped_is_told_from_one_that_was_done() -> None:
    config = {"trial": 3, "overrides": {"train.epochs": 4}, "train.epochs": 4}
    reports: list[dict[str, Any]] = [
        {"epoch": 3, "of": 4},
        {"epoch": 4, "of": 4},
        {"epoch": 3, "of": 4, "ended": True},
        {"ended": True},
    ]
    rows = [record(config, one | {"ndcg": 0.1}, None, NDCG) for one in reports]
    assert [one["state"] for one in rows] == ["stopped", "finished", "finished", "finished"]
    assert {one["trial"] for one in rows} == {3}
    assert rows[0]["params"] == {"train.epochs": 4}


def test_a_failed_trial_has_its_reason_and_no_value() -> None:
    metrics = {"ndcg": 0.0, "epoch": 1, "best_epoch": 1, "failed": "the loss is nan"}
    config = {"trial": 1, "overrides": {}}
    diverged = record(config, metrics, None, NDCG)
    died = record(config, None, RuntimeError("trace\nThe worker died."), NDCG)
    silent = record(config, {"epoch": 0}, None, NDCG)
    assert [row["state"] for row in (diverged, died, silent)] == ["failed"] * 3
    assert [row["values"] for row in (diverged, died, silent)] == [{}] * 3
    assert diverged["reason"] == "the loss is nan"
    assert died["reason"] == "The worker died."
    assert silent["reason"] == "it ended before it had reported anything"


def test_the_best_comes_first_and_the_failed_last() -> None:
    failed = row(2, None, state="failed", reason="out of memory")
    records = [row(1, 0.1), failed, row(3, 0.3), row(4, 0.0)]
    assert ranked(records, NDCG) == [2, 0, 3]
    lines = render(records, NDCG).splitlines()
    shown = [
        line.split()[1] for line in lines if line.startswith("│") and line.split()[1].isdigit()
    ]
    assert shown == ["3", "1", "4", "2"]
    assert "out of memory" in lines[-2]


def test_of_equal_trials_the_second_metric_decides() -> None:
    records = [row(n, 0.5, milliseconds=cost) for n, cost in enumerate((3.0, 1.0, 2.0), 1)]
    assert ranked(records, {"ndcg": "max", "milliseconds": "min"}) == [1, 2, 0]
    assert ranked(records, {"milliseconds": "min"}) == [1, 2, 0]


@hypothesis.given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_the_front_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    records = [row(n, float(a), milliseconds=float(b)) for n, (a, b) in enumerate(pairs, 1)]

    def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    kept = {at for at, one in enumerate(pairs) if not any(beats(other, one) for other in pairs)}
    found = unbeaten(records, {"ndcg": "max", "milliseconds": "min"})
    assert set(found) == kept
    assert len(found) == len(kept)


def test_settings_are_one_line() -> None:
    overrides = {"loss": {"name": "full_softmax", "temperature": 0.123456}, "tower.history": 20}
    assert settings(overrides) == "loss=full_softmax loss.temperature=0.1235 tower.history=20"

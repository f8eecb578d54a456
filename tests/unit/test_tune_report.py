"""Records of trials, their order and table, and runs written as TOML."""

import tomllib
from typing import Any

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from train.config import Run
from tune.report import Record, ranked, record, render, settings, toml

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


def row(value: float | None, **changes: Any) -> Record:
    kept: Record = {"overrides": {"train.epochs": 3}, "state": "finished", "value": value}
    return kept | {"epochs": 3, "best_epoch": 2, "seconds": 1.0, "reason": None} | changes


@hypothesis.settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abc._ -é", max_size=4), VALUES, max_size=5))
def test_toml_reads_back_as_what_was_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml(table)) == table


def test_a_run_reads_back_as_it_was() -> None:
    assert Run.model_validate(tomllib.loads(toml(RUN.table()))) == RUN


def test_a_trial_that_asha_ended_is_told_from_one_that_was_done() -> None:
    config = {"overrides": {"train.epochs": 4}}
    states = [
        record(RUN, config, {"ndcg": 0.1, "epoch": e, "best_epoch": b}, None, "ndcg")["state"]
        for e, b in [(4, 4), (3, 1), (3, 2), (1, 1)]
    ]
    assert states == ["finished", "finished", "stopped", "stopped"]


def test_a_failed_trial_has_its_reason_and_no_value() -> None:
    metrics = {"ndcg": 0.0, "epoch": 1, "best_epoch": 1, "failed": "the loss is nan"}
    diverged = record(RUN, {"overrides": {}}, metrics, None, "ndcg")
    died = record(RUN, {"overrides": {}}, None, RuntimeError("trace\nThe worker died."), "ndcg")
    assert (diverged["state"], diverged["value"]) == ("failed", None)
    assert diverged["reason"] == "the loss is nan"
    assert (died["state"], died["value"], died["reason"]) == ("failed", None, "The worker died.")


def test_the_best_comes_first_and_the_failed_last() -> None:
    records = [row(0.1), row(None, state="failed", reason="out of memory"), row(0.3), row(0.0)]
    assert ranked(records) == [2, 0, 3]
    lines = render(records, "ndcg").splitlines()
    shown = [
        line.split()[1] for line in lines if line.startswith("│") and line.split()[1].isdigit()
    ]
    assert shown == ["3", "1", "4", "2"]
    assert "out of memory" in lines[-2]


def test_settings_are_one_line() -> None:
    overrides = {"loss": {"name": "full_softmax", "temperature": 0.123456}, "tower.history": 20}
    assert settings(overrides) == "loss=full_softmax loss.temperature=0.1235 tower.history=20"

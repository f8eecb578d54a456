"""Spaces: what they may say, what is drawn from them, and that no draw is an invalid run."""

import functools
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import cli
from train.config import Run
from train.losses.softmax import InBatchSoftmax
from train.rerankers.blend import Blend
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.logit import Logit
from train.run_files import presets
from tune.__main__ import main
from tune.config import Sweep, read_sweep
from tune.space.draws import check, corners, override, samples, suggest
from tune.space.points import finished_trial, point
from tune.space.ranges import Space, parse
from tune.subjects import SUBJECTS

optuna.logging.set_verbosity(optuna.logging.WARNING)
RUN = Run.model_validate({"data": "generated"})
TOWERS = SUBJECTS["towers"].keys
LOSSES = {
    "choice": [
        {"name": "in_batch_softmax", "temperature": {"uniform": [0.1, 2]}},
        {"name": "sampled_softmax", "count": {"choice": [16, 64]}},
        {"name": "full_softmax"},
    ]
}


@functools.cache
def preset(name: str) -> tuple[Sweep, Run, Space]:
    sweep = read_sweep(name)
    return sweep, sweep.base(), sweep.ranges()


def draw(space: Any, seed: int) -> dict[str, Any]:
    return samples(space, 1, seed)[0]


@pytest.mark.parametrize("name", presets("tune"))
def test_every_draw_from_a_preset_is_a_run(name: str) -> None:
    _, run, space = preset(name)
    drawn = samples(space, 2000, seed=1)
    runs = [override(run, one) for one in drawn]
    assert len({json.dumps(one.table()) for one in runs}) > 100
    for one, varied in zip(drawn, runs, strict=True):
        table = varied.table()
        for key in one:
            if isinstance(one[key], list):
                assert [_named(entry) for entry in one[key]] == [e["name"] for e in table[key]]
            if isinstance(one[key], dict):
                assert table[key].items() >= one[key].items()


@pytest.mark.parametrize("name", presets("tune"))
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_run_drawn_from_a_preset_is_a_point_of_it(name: str, seed: int) -> None:
    sweep, run, space = preset(name)
    wanted = override(run, draw(space, seed))
    found = point(space, run, wanted)
    assert found is not None
    assert override(run, suggest(space, optuna.trial.FixedTrial(found))) == wanted
    values = [0.5] * len(sweep.directions())
    assert finished_trial(space, found, values).params == found


def _named(entry: Any) -> Any:
    return entry["name"] if isinstance(entry, dict) else entry


def test_entries_of_a_list_are_found_by_their_names() -> None:
    run = override(RUN, {"sources.als.quota": 40, "reranker.kinds.catboost.depth": 2})
    assert [(of.name, of.quota) for of in run.sources if of.quota] == [("als", 40)]
    assert run.rerankers() == (Blend(), Logit(), CatBoost(depth=2))
    with pytest.raises(ValueError, match=r"sources.svd.quota: svd is not among tower, ease, .*; a"):
        override(RUN, {"sources.svd.quota": 40})
    with pytest.raises(ValueError, match=r"sources.als: name a key of it too, such as sources.als"):
        override(RUN, {"sources.als": 40})


def test_lists_of_sources_are_chosen_with_their_ranges() -> None:
    als = {"name": "als", "quota": {"int": [5, 9]}, "alpha": {"choice": [1, 10]}}
    space = parse({"sources": {"choice": [["tower"], ["tower", als], ["tower", "svd"]]}})
    drawn = samples(space, 60)
    assert {json.dumps([_named(entry) for entry in one["sources"]]) for one in drawn} == {
        '["tower"]',
        '["tower", "als"]',
        '["tower", "svd"]',
    }
    quotas = {one["sources"][1]["quota"] for one in drawn if _named(one["sources"][-1]) == "als"}
    assert quotas == {5, 6, 7, 8, 9}
    ends = [one["sources"] for one in corners(space)]
    assert ["tower", {"name": "als", "quota": 9, "alpha": 1}] in ends
    assert ["tower", {"name": "als", "quota": 5, "alpha": 10}] in ends
    wanted = override(RUN, {"sources": ["tower", {"name": "als", "quota": 7, "alpha": 10}]})
    assert point(space, RUN, wanted) == {
        "sources": "tower als",
        "sources.tower als.als.quota": 7,
        "sources.tower als.als.alpha": 10,
    }
    assert point(space, RUN, override(RUN, {"sources": ["tower"]})) == {"sources": "tower"}
    assert point(space, RUN, override(RUN, {"sources": ["tower", "slim"]})) is None
    assert point(space, RUN, override(RUN, {"sources": ["als", "tower"]})) is None


def test_a_run_that_no_draw_gives_is_no_point() -> None:
    space = parse({"loss": LOSSES, "train.epochs": {"int": [2, 9]}})
    assert point(space, RUN, override(RUN, {"train.epochs": 10})) is None
    assert point(space, RUN, override(RUN, {"loss": {"name": "bpr"}})) is None
    assert point(space, RUN, override(RUN, {"loss.temperature": 2.5})) is None
    # Something else than what is searched.
    assert point(space, RUN, override(RUN, {"tower.width": 7})) is None
    assert point(space, RUN, override(RUN, {"train.epochs": 9})) == {
        "loss": "in_batch_softmax",
        "loss.in_batch_softmax.temperature": 1.0,
        "train.epochs": 9,
    }


def test_what_is_chosen_together_is_put_over_the_run_together() -> None:
    together = [
        {"loss.name": "cosine_contrastive", "tower.score": "cosine"},
        {"loss": {"name": "bpr", "count": {"int": [1, 5]}}, "train.epochs": 3},
    ]
    space = parse({"*": {"choice": together}, "train.batch_size": {"int": [2, 9]}})
    runs = [override(RUN, one) for one in samples(space, 50)]
    seen = {(run.loss.model_dump()["name"], run.tower.score, run.train.epochs) for run in runs}
    assert seen == {("cosine_contrastive", "cosine", RUN.train.epochs), ("bpr", "dot", 3)}
    assert {run.train.batch_size for run in runs} <= set(range(2, 10))


@given(
    seed=st.integers(0, 2**31),
    low=st.integers(1, 50),
    more=st.integers(1, 50),
    options=st.lists(st.integers() | st.text(max_size=5) | st.booleans(), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=50)
def test_draws_lie_between_the_ends(seed: int, low: int, more: int, options: list[Any]) -> None:
    high = low + more
    table = {
        "a": {"uniform": [low, high]},
        "b": {"loguniform": [low, high]},
        "c": {"int": [low, high]},
        "d": {"choice": options},
        "e": {"quniform": [0, 1, 0.25]},
    }
    drawn = draw(parse(table), seed)
    assert drawn["e"] in (0, 0.25, 0.5, 0.75, 1)
    assert all(low <= drawn[key] <= high for key in "abc")
    assert isinstance(drawn["c"], int)
    assert drawn["d"] in options


def test_a_chosen_table_has_only_its_own_keys() -> None:
    space = parse({"loss": LOSSES})
    drawn = [draw(space, seed)["loss"] for seed in range(40)]
    assert {table["name"]: set(table) for table in drawn} == {
        "in_batch_softmax": {"name", "temperature"},
        "sampled_softmax": {"name", "count"},
        "full_softmax": {"name"},
    }


def test_options_of_one_name_are_told_apart() -> None:
    tables = [{"name": "full_softmax", "temperature": t} for t in (0.1, 0.2)]
    space = parse({"loss": {"choice": tables}})
    assert {draw(space, seed)["loss"]["temperature"] for seed in range(20)} == {0.1, 0.2}


def test_corners_have_each_end_and_each_option() -> None:
    found = corners(parse({"train": {"epochs": {"int": [2, 9]}}, "loss": LOSSES}))
    assert {corner["train.epochs"] for corner in found} == {2, 9}
    assert [corner["loss"] for corner in found[2:]] == [
        {"name": "in_batch_softmax", "temperature": 0.1},
        {"name": "in_batch_softmax", "temperature": 0.1},
        {"name": "in_batch_softmax", "temperature": 2},
        {"name": "sampled_softmax", "count": 16},
        {"name": "sampled_softmax", "count": 16},
        {"name": "sampled_softmax", "count": 64},
        {"name": "full_softmax"},
    ]


def test_an_override_keeps_the_rest_of_a_table_and_a_choice_replaces_it() -> None:
    base = override(RUN, {"loss.temperature": 0.5, "loss.correct_log_q": False})
    assert base.loss == InBatchSoftmax(temperature=0.5, correct_log_q=False)
    assert override(base, {"loss": {"name": "full_softmax"}}).loss.temperature == 1.0
    assert RUN.loss.temperature == 1.0


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, 'empty; name a key of the run: "train.epochs" = { int = [1, 9] }'),
        (
            {"train": {"epochs": {"int": [9, 1]}}},
            "train.epochs: int takes [low, high] with low below high, got [9, 1]",
        ),
        (
            {"train.epochs": {"int": [1, 2.5]}},
            "train.epochs: int takes two whole numbers, [low, high], got [1, 2.5]",
        ),
        (
            {"train.epochs": {"uniform": 3}},
            "train.epochs: uniform takes two numbers, [low, high], got 3",
        ),
        (
            {"train.learning_rate": {"loguniform": [0, 1]}},
            "train.learning_rate: loguniform takes bounds above 0, got [0, 1]",
        ),
        (
            {"train.epochs": {"choice": []}},
            "train.epochs: choice takes a list of at least one option, got []",
        ),
        (
            {"train.epochs": 3},
            "train.epochs: expected a table with one of choice, int, loguniform, quniform, "
            "uniform, got 3",
        ),
        (
            {"train.epochs": {"itn": [1, 3]}},
            "train.epochs: unknown kind of range 'itn'; did you mean int? available: choice, int, "
            "loguniform, quniform, uniform",
        ),
        (
            {"train.epochs": {"int": [1, 3], "uniform": [1, 3]}},
            "train.epochs: expected one kind of range alone, got int, uniform",
        ),
        (
            {"train.learning_rate": {"quniform": [0, 1]}},
            "train.learning_rate: quniform takes three numbers, [low, high, step], got [0, 1]",
        ),
        (
            {"train.learning_rate": {"quniform": [0, 1, 2]}},
            "train.learning_rate: quniform takes a step above 0 that fits between the ends, "
            "got [0, 1, 2]",
        ),
        (
            {"*": {"choice": [{"train.epochs": 1}]}, "train.epochs": {"int": [1, 2]}},
            'train.epochs: "*" chooses it too; name it in one place',
        ),
        (
            {"*": {"int": [1, 2]}},
            '"*" takes a choice between tables of keys of the run',
        ),
        (
            {"loss": LOSSES, "loss.temperature": {"uniform": [0.1, 1]}},
            "loss.temperature: a choice replaces the whole of loss; put this range into its tables",
        ),
        (
            {"loss": {"choice": [{"name": "full_softmax", "temperature": {"uniform": [2, 1]}}]}},
            "loss: choice: full_softmax.temperature: uniform takes [low, high] with low below "
            "high, got [2, 1]",
        ),
    ],
)
def test_a_space_that_cannot_be_drawn_from_says_why(space: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(space)
    assert str(error.value) == message


@pytest.mark.parametrize("key", ["reranker.depth", "seed", "data.users", "train.workers"])
def test_a_key_that_no_trial_looks_at_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"space: {key} changes nothing that a trial measures"):
        run = Run.model_validate({"data": "generated", "reranker": "catboost"})
        check(parse({key: {"int": [1, 2]}}), run, TOWERS, SUBJECTS["towers"].fixed)


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        (
            'space."loss.temperatur" = {uniform = [0.1, 1]}',
            [],
            "unknown key 'temperatur'; did you mean temperature? available:",
        ),
        ('space."los.temperature" = {uniform = [0.1, 1]}', [], "did you mean loss?"),
        (
            'space.loss.choice = [{name = "full_softmax", count = 3}]',
            [],
            "unknown key 'count'",
        ),
        (
            'space.loss.choice = ["full_softmax", "full_softmx"]',
            [],
            "unknown loss 'full_softmx'; available",
        ),
        (
            'space."loss.temperature" = {uniform = [-1, 1]}',
            [],
            "temperature: should be greater than 0, got -",
        ),
        (
            'space."seed.x" = {int = [1, 2]}',
            [],
            "seed.x: seed is a value (0), not a table",
        ),
        (
            'space."reranker.depth" = {int = [1, 3]}',
            [],
            "reranker.depth: unknown key 'depth'; available: kinds, name",
        ),
        (
            'space."sources.svd.quota" = {int = [1, 3]}',
            [],
            "sources.svd.quota: svd is not among tower, ease, als, itemknn",
        ),
        (
            'space."train.epochs" = {int = [2, 1]}',
            [],
            "space: train.epochs: int takes [low, high] with low below high, got [2, 1]",
        ),
        ("", ["--trials", "0"], "trials: should be greater than or equal to 1, got '0'"),
        ("", ["--hours", "0"], "hours: should be greater than 0, got '0'"),
        ("", ["--seeds", "0"], "seeds: should be greater than or equal to 1, got '0'"),
        (
            "",
            ["--metrics", "recall"],
            "metrics: unknown metric 'recall'; available: megabytes, milliseconds, ndcg",
        ),
        ("", ["--metrics", "ndcg,ndcg"], "metrics: ndcg is there twice; name one, or two"),
        ("", ["--metrics", "a b c"], "metrics: "),
        (
            'start = [{"train.epochs" = 7}]',
            [],
            "start: {'train.epochs': 7} is outside of the space; widen it, or leave it",
        ),
        (
            'space."tower.width" = {int = [1, 9]}\nspace."index.m" = {int = [2, 9]}',
            [],
            "a sweep varies one of towers, sources, reranker, index, and this has keys of index "
            "and towers",
        ),
        (
            "tower.width = {int = [1, 9]}",
            [],
            "unknown key 'tower'",
        ),
        (
            'space."tower.width" = {int = [3, 9]}\nspace."tower.name" = {choice = ["dssm"]}',
            [],
            "cannot be divided",
        ),
        ("", ["--resume"], "sweep is no sweep to resume; leave --resume out to begin one"),
        ("", ["--after", "elsewhere"], "elsewhere is not the folder of a sweep that has ended"),
        ("", ["--name", "../x"], "name: expected letters, digits,"),
        ("trails = 3", [], "unknown key 'trails'; did you mean trials?"),
        ("", ["--run", "no.toml"], "no file 'no.toml'; expected a TOML file or one of the presets"),
    ],
)
def test_a_mistake_ends_the_command_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: str,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text('data = "generated"\n')
    space = "" if "space" in changes else 'space."train.epochs" = {int = [1, 2]}\n'
    Path("sweep.toml").write_text(f'run = "run.toml"\ntrials = 2\n{changes}\n{space}')
    with pytest.raises(SystemExit) as ended:
        cli.run(main, ["sweep.toml", *flags])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.toml", "sweep.toml"]


def test_flags_go_over_the_file() -> None:
    sweep = read_sweep("losses", {"trials": "3", "seed": "7"})
    assert (sweep.trials, sweep.seed, sweep.name) == (3, 7, "losses")


def test_a_sweep_can_be_written_down_and_read_again() -> None:
    sweep = read_sweep("losses")
    assert Sweep.model_validate_json(sweep.model_dump_json()) == sweep


def test_a_sweep_needs_a_budget() -> None:
    table = {"run": "demo", "space": {"train.epochs": {"int": [1, 2]}}}
    with pytest.raises(ValueError, match="no budget; set trials, hours, or both"):
        Sweep.model_validate(table)
    assert Sweep.model_validate(table | {"hours": 1}).trials is None

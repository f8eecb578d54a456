"""A run's settings: defaults, then the file, then flags; and what is said of those it has not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cluster.cli import explain
from train.baselines.factorizations import ALS, SVD
from train.baselines.linear import EASE
from train.baselines.popularity import Popularity
from train.config import DEFAULT_SOURCES, STAGE_TWO, NoReranker, Run
from train.data.splits import SPLITS
from train.data.splits.auto import AutoSplit
from train.data.splits.times import LastDays
from train.datasets import DATASETS
from train.evaluation.settings import Evaluation
from train.flags import CHOICES, apply_flags
from train.index.base import IndexSettings
from train.losses import LOSSES
from train.losses.pairwise import CosineContrastive
from train.losses.softmax import FullSoftmax, InBatchSoftmax, SampledSoftmax
from train.rerankers.blend import Blend
from train.rerankers.catboost_reranker import CatBoost
from train.rerankers.logit import Logit
from train.rerankers.mlp import MLP
from train.run_files import _merged, presets, read_run, read_table
from train.sources.collaborative import ALSSource, EASESource, SLIMSource, SVDSource
from train.sources.entries import TowerSource
from train.towers import TOWERS
from train.towers.pair_tower import PairTower
from train.towers.two_tower import TwoTower
from train.tracking import TRACKING
from train.trainer.job import Training

DATA = {"data": {"name": "generated"}}
EASE_5 = {"name": "ease", "regularization": 5.0}
ENTRIES: dict[str, Mapping[str, Any]] = {
    "data": DATASETS,
    "split": SPLITS,
    "tower": TOWERS,
    "loss": LOSSES,
    "reranker": STAGE_TWO,
    "tracking": TRACKING,
}


def toml(folder: Path, text: str) -> str:
    path = folder / "run.toml"
    path.write_text('data = "generated"\n' + text)
    return str(path)


DEFAULTS = ["tower", "ease", "als", "itemknn", "recent_popularity", "trending"]


def test_defaults(tmp_path: Path) -> None:
    run = read_run(toml(tmp_path, ""))
    assert (run.name, run.seed, run.final_fit) == ("run", 0, "everything")
    assert run.loss == InBatchSoftmax()
    assert run.tower == TwoTower()
    assert run.split == AutoSplit()
    assert run.rerankers() == (Blend(), Logit(), CatBoost())
    assert [source.name for source in run.sources] == DEFAULTS
    assert (run.train, run.index, run.evaluation) == (Training(), IndexSettings(), Evaluation())


def test_the_file_goes_over_defaults_and_flags_over_the_file(tmp_path: Path) -> None:
    text = '[loss]\nname = "in_batch_softmax"\ntemperature = 0.5\ncorrect_log_q = false\n'
    source = toml(tmp_path, text + "[train]\nepochs = 3\nbatch_size = 64\n")
    run = read_run(source)
    assert run.loss == InBatchSoftmax(temperature=0.5, correct_log_q=False)
    assert run.train == Training(epochs=3, batch_size=64)
    run = read_run(source, ["--loss.temperature", "0.05", "--train.epochs=7", "--name", "hot"])
    assert run.loss == InBatchSoftmax(temperature=0.05, correct_log_q=False)
    assert run.train == Training(epochs=7, batch_size=64)
    assert run.name == "hot"


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--seed", "7"], "seed", 7),
        (["--storage", "s3://bucket/runs"], "storage", "s3://bucket/runs"),
        (["--final-fit", "before_test"], "final_fit", "before_test"),
        (["--train.gpu", "auto"], "train.gpu", "auto"),
        (["--train.gpu", "False"], "train.gpu", False),
        (["--train.half-life", "7"], "train.half_life", 7.0),
        (["--train.epoch_examples", "100"], "train.epoch_examples", 100),
        (["--tower.no-user-id"], "tower.user_id", False),
        (["--data.users", "44"], "data.users", 44),
        (["--split.at", "2024-01-31"], "split.at", "2024-01-31"),
        (["--reranker.name", "catboost", "--reranker.iterations", "9"], "reranker.iterations", 9),
        (["--index.kind", "hnsw"], "index.kind", "hnsw"),
        (["--evaluation.k", "20"], "evaluation.k", 20),
        (["--evaluation.baselines"], "evaluation.baselines", []),
        (["--evaluation.baselines.ease.regularization", "5"], "evaluation.baselines.3", EASE_5),
        (["--sources.als.quota", "50"], "sources.2.quota", 50),
        (["--sources.2.quota", "50"], "sources.2.quota", 50),
        (["--sources.recent-popularity.days=3"], "sources.4.days", 3),
        (["--reranker.kinds.catboost.iterations", "9"], "reranker.kinds.2.iterations", 9),
        (["--reranker.kinds.2.iterations", "9"], "reranker.kinds.2.iterations", 9),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_part_has_flags(flags: list[str], key: str, value: Any) -> None:
    found: Any = apply_flags(DATA, flags).table()
    for part in key.split("."):
        found = found[int(part) if part.isdecimal() else part]
    assert found == value


@pytest.mark.parametrize(
    "flags", [["--loss.name", "sampled_softmax"], ["--loss.name=sampled_softmax"]], ids=len
)
def test_a_name_in_a_flag_takes_the_place_of_the_whole_table(flags: list[str]) -> None:
    table = DATA | {"loss": {"name": "in_batch_softmax", "correct_log_q": False}}
    assert apply_flags(table, flags).loss == SampledSoftmax()
    with_count = apply_flags(table, ["--loss.count", "5", *flags])
    assert with_count.loss == SampledSoftmax(count=5)


def test_the_name_that_is_there_already_changes_nothing() -> None:
    table = DATA | {"loss": {"name": "full_softmax", "temperature": 0.2}}
    flags = ["--loss.name", "full_softmax", "--loss.temperature", "0.3"]
    assert apply_flags(table, flags[:2]).loss == FullSoftmax(temperature=0.2)
    assert apply_flags(table, flags).loss == FullSoftmax(temperature=0.3)


def test_baselines_are_names_or_tables_and_other_flags_leave_them() -> None:
    table = DATA | {
        "evaluation": {"baselines": ["popularity", {"name": "ease", "regularization": 7}]}
    }
    run = apply_flags(table, ["--evaluation.k", "5"])
    assert run.evaluation == Evaluation(k=5, baselines=(Popularity(), EASE(regularization=7)))
    assert Run.model_validate(json.loads(json.dumps(run.table()))) == run
    run = apply_flags(table, ["--evaluation.baselines", "als", "svd"])
    assert run.evaluation.baselines == (ALS(), SVD())


def test_lists_take_names_and_what_was_there_keeps_its_settings() -> None:
    table = DATA | {"sources": ["tower", {"name": "als", "quota": 40, "factors": 8}, "svd"]}
    named = apply_flags(table, ["--sources", "als", "tower", "ease", "--seed", "3"])
    als = ALSSource(quota=40, factors=8)
    assert (named.sources, named.seed) == ((als, TowerSource(), EASESource()), 3)
    one = apply_flags(table, ["--sources.als.quota", "9"])
    assert one.sources == (TowerSource(), ALSSource(quota=9, factors=8), SVDSource())
    both = apply_flags(table, ["--sources", "tower", "slim", "--sources.slim.quota", "9"])
    assert both.sources == (TowerSource(), SLIMSource(quota=9))
    flags = ["--reranker.kinds", "mlp", "catboost", "--reranker.kinds.mlp.epochs", "3"]
    assert apply_flags(DATA, flags).rerankers() == (MLP(epochs=3), CatBoost())
    assert apply_flags(DATA | {"reranker": "auto"}, flags[:2]).rerankers() == (MLP(),)


def test_lists_that_nobody_named_follow_from_what_is_seen() -> None:
    table = DATA | {"seen": "allow"}
    assert "buy_again" in [source.name for source in apply_flags(table, ["--seed", "3"]).sources]
    run = apply_flags(table, ["--seen", "exclude"])
    assert run.sources == DEFAULT_SOURCES
    assert run.evaluation == Evaluation()
    named = table | {"sources": ["tower", "buy_again"]}
    with pytest.raises(ValidationError, match="set seen to 'allow' or 'only', or take it out"):
        apply_flags(named, ["--seen", "exclude"])


def test_several_names_in_flags() -> None:
    run = apply_flags(DATA, ["--split.name", "last_days", "--reranker.name", "none"])
    assert (run.split, run.reranker) == (LastDays(), NoReranker())


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"tran": {}}, "tran: unknown key 'tran'; did you mean train? available: candidates"),
        (
            {"train": {"epoch": 3}},
            "train.epoch: unknown key 'epoch'; did you mean epochs? available: batch_size, ",
        ),
        (
            {"loss": {"name": "full_softmax", "temperatur": 1}},
            "loss.temperatur: unknown key 'temperatur'; did you mean temperature? available: ",
        ),
        (
            {"loss": "bprr"},
            f"loss: unknown loss 'bprr'; available: {', '.join(sorted(LOSSES))}",
        ),
        (
            {"tower": {"width": 8}},
            "tower: [tower] has no name; set name to one of: als, dssm, ",
        ),
        ({"train": {"epochs": "many"}}, "train.epochs: should be a valid integer"),
        ({"loss": {"name": "full_softmax", "temperature": 0}}, "loss.temperature: should be gr"),
        ({"name": "../up"}, "name: "),
        ({"split": {"name": "time", "at": 1, "quantile": 0.5}}, "split: the time split takes at"),
        (
            {"evaluation": {"baselines": ["slimm"]}},
            "evaluation.baselines.0: unknown baseline 'slimm'; available: als, buy_again, ",
        ),
        (
            {"evaluation": {"baselines": [{"name": "ease", "lambda": 1}]}},
            "evaluation.baselines.0.lambda: unknown key 'lambda'; available: name, regularization",
        ),
        (
            {"evaluation": {"baselines": ["svd", "als", "svd"]}},
            "evaluation.baselines: a baseline can be there once; more than once: svd",
        ),
        ({"data": 3}, "data: expected a table or a name, got 3"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_by_its_key(table: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        apply_flags(DATA | table, [])
    assert explain(caught.value).startswith(line)


def test_the_data_has_to_be_named() -> None:
    with pytest.raises(ValidationError) as caught:
        apply_flags({}, [])
    assert explain(caught.value) == "data: is needed, and was not given"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--loss.temprature", "1"], ["--loss.temprature", "--loss.temperature"]),
        (["--train.epochs", "many"], ["--train.epochs", "many"]),
        (["--loss.name", "bprr"], ["unknown loss 'bprr'", "in_batch_softmax"]),
        (["--loss.name"], ["unknown loss ''", "in_batch_softmax"]),
        (["--loss.temperature", "-1"], ["temperature", "greater than 0", "-1"]),
        (["stray"], ["stray"]),
        (["--sources", "als"], ["expected the tower among them", "got als; add 'tower'"]),
        (["--sources", "tower", "alss"], ["unknown source 'alss'; available: als, buy_again"]),
        (["--sources", "tower,als"], ["unknown source 'tower,als'; available: als, buy_again"]),
        (["--sources", "tower", "als", "als"], ["a source can be there once", "than once: als"]),
        (["--sources"], ["got none; add 'tower'"]),
        (["--sources.svd.quota", "3"], ["--sources.svd.quota: svd is not in sources, which has"]),
        (["--sources.9.quota", "3"], ["9 is not in sources, which has tower, ease", "--sources N"]),
        (["--sources.als.quotaa", "3"], ["--sources.als.quotaa", "--sources.als.quota"]),
        (["--sources.als.quota", "0"], ["quota", "greater than or equal to 1"]),
        (["--reranker.kinds"], ["expected one reranker or more, got none"]),
        (["--reranker.kinds", "mlp", "mlp"], ["a reranker can be there once"]),
        (["--reranker.iterations", "9"], ["--reranker.kinds.catboost.iterations"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_flag_is_named(
    flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((SystemExit, ValueError)) as caught:
        apply_flags(DATA, flags)
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 2
        said = capsys.readouterr().err
    else:
        said = str(caught.value)
    for word in words:
        assert word in said


def test_a_run_file_may_lie_at_a_uri(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "generated"\nseed = 7\n')
    assert read_run(file.as_uri()) == read_run(str(file))
    with pytest.raises(FileNotFoundError, match=r"no file 'file:.*absent.toml'; expected a TOML"):
        read_run((tmp_path / "absent.toml").as_uri())


def test_a_missing_file_is_named_with_the_presets(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file '.*none.toml'; .* the presets: demo"):
        read_run(str(tmp_path / "none.toml"))


def test_what_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run.toml is not TOML: .*line 2"):
        read_run(toml(tmp_path, "epochs = = 3\n"))


def extending(folder: Path, base: str, text: str) -> str:
    path = folder / "variant.toml"
    path.write_text(f'extends = "{base}"\n{text}')
    return str(path)


def test_a_file_extends_another(tmp_path: Path) -> None:
    base = toml(tmp_path, 'seed = 3\n[loss]\nname = "full_softmax"\ntemperature = 0.5\n')
    variant = extending(tmp_path, base, 'name = "variant"\n[train]\nepochs = 2\n')
    expected = {"seed": 3, "name": "variant", "train": {"epochs": 2}}
    assert {key: read_table(variant)[key] for key in expected} == expected
    assert read_run(variant).loss == FullSoftmax(temperature=0.5)
    # Flags are over both.
    assert read_run(variant, ["--train.epochs", "4"]).train.epochs == 4


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}}, {"b": 1, "c": {"d": 2, "e": 3}}),
        ({"a": {"name": "x", "b": 1}}, {"a": {"name": "x", "c": 2}}, {"name": "x", "b": 1, "c": 2}),
        ({"a": {"name": "x", "b": 1}}, {"a": {"c": 2}}, {"name": "x", "b": 1, "c": 2}),
        ({"a": {"name": "x", "b": 1}}, {"a": {"name": "y", "c": 2}}, {"name": "y", "c": 2}),
        ({"a": {"name": "x", "b": 1}}, {"a": "y"}, "y"),
        ({"a": "x"}, {"a": {"b": 1}}, {"name": "x", "b": 1}),
        ({"a": "x"}, {"a": {"name": "y"}}, {"name": "y"}),
        ({"a": [1, 2]}, {"a": [3]}, [3]),
    ],
    ids=str,
)
def test_tables_are_merged_unless_they_have_another_name(
    base: dict[str, Any], over: dict[str, Any], merged: Any
) -> None:
    assert _merged(base, over) == {"a": merged}


def test_what_a_file_extends_may_extend_a_preset(tmp_path: Path) -> None:
    first = toml(tmp_path, "")
    Path(first).write_text('extends = "demo"\nname = "first"\ntower = "ncf"\nloss = "bpr"\n')
    second = read_run(extending(tmp_path, first, 'reranker = "none"\n'))
    assert (second.name, second.tower) == ("first", TOWERS["ncf"]())
    assert (second.data, second.train) == (read_run("demo").data, read_run("demo").train)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('"absent"', FileNotFoundError, "run.toml extends what is not there: no file 'absent'; ex"),
        ("3", ValueError, "run.toml: extends: expected a preset or a TOML file, got 3"),
        ('"RUN"', ValueError, "extends goes in a circle: .*run.toml -> .*run.toml$"),
    ],
)
def test_what_cannot_be_extended_is_named(
    text: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = toml(tmp_path, "")
    Path(path).write_text(f"extends = {text.replace('RUN', path)}\n")
    with pytest.raises(error, match=message):
        read_run(path)


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_a_run(name: str) -> None:
    run = read_run(name)
    assert run.name == name
    assert run == Run.model_validate(read_table(name))


def test_a_loss_that_does_not_suit_the_tower_is_refused() -> None:
    message = "loss 'cosine_contrastive' needs scores of cosine, not dot: set tower"
    with pytest.raises(ValueError, match=message):
        apply_flags(DATA, ["--loss.name", "cosine_contrastive"])
    with pytest.raises(ValueError, match=message):
        apply_flags(DATA | {"loss": "cosine_contrastive"}, [])


def test_later_flags_make_a_loss_suit_the_tower() -> None:
    flags = ["--loss.name", "cosine_contrastive", "--tower.normalize", "--loss.margin", "0.2"]
    run = apply_flags(DATA, flags)
    assert run.loss == CosineContrastive(margin=0.2)
    assert run.tower == TwoTower(normalize=True)
    with pytest.raises(ValueError, match="loss 'cosine_contrastive' needs scores of cosine"):
        apply_flags(DATA, [*flags, "--tower.no-normalize"])


def every_entry() -> list[tuple[str, str]]:
    return [(choice, name) for choice, entries in ENTRIES.items() for name in entries]


def test_every_choice_is_tried() -> None:
    assert set(ENTRIES) == set(CHOICES)


@pytest.mark.parametrize(("choice", "name"), every_entry())
def test_a_run_as_json_gives_back_the_run(choice: str, name: str) -> None:
    needed = {"interactions": "events.csv"} if name == "files" else {}
    table: dict[str, Any] = DATA | {choice: {"name": name, **needed}}
    if choice == "loss" and LOSSES[name]().needs("dot"):
        table["tower"] = {"name": "two_tower", "normalize": True}
    if choice == "tower" and issubclass(TOWERS[name], PairTower):
        table["loss"] = "bpr"
    run = Run.model_validate(table)
    assert type(getattr(run, choice)) is ENTRIES[choice][name]
    text = json.dumps(run.table())
    again = Run.model_validate(json.loads(text))
    assert again == run
    assert again.table() == run.table()
    # With flags too: they pass through another model.
    assert apply_flags(run.table(), ["--seed", "3"]) == run.model_copy(update={"seed": 3})


def test_a_reranker_of_vectors_over_a_tower_of_pairs_is_refused() -> None:
    table = DATA | {"tower": "ncf", "loss": "bpr", "reranker": "mlp"}
    message = "reranker 'mlp' reads vectors, and those of tower 'ncf' mean something else"
    with pytest.raises(ValueError, match=message):
        apply_flags(table, [])
    with pytest.raises(ValueError, match="loss 'cosine_contrastive' needs scores of cosine"):
        apply_flags(table | {"loss": "cosine_contrastive"}, [])

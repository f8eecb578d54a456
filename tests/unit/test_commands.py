"""The command lines: help without a file, versions, verbosity, run files as people write them."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import ValidationError

from cluster.cli import explain
from cluster.verbosity import taken
from tests.documents import ROOT
from train.baselines import BASELINES
from train.data.splits import SPLITS
from train.datasets import DATASETS
from train.entries import ENTRIES, names
from train.losses import LOSSES
from train.rerankers import RERANKERS
from train.run_files import checked_run, presets, read_run, read_table
from train.sources.entries import SOURCES
from train.towers import TOWERS
from tune.config import read_sweep

# What takes seconds to import.
SLOW = {"torch", "ray", "catboost", "pyarrow", "optuna"}


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words", [("train", "fit", "--help"), ("train", "--help"), ("tune", "--help")], ids=" ".join
)
def test_help_needs_no_file_and_no_library(words: tuple[str, ...]) -> None:
    ended = python("-X", "importtime", "-m", *words)
    assert ended.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert not SLOW & imported
    if words != ("train", "--help"):
        for place in (ENTRIES["tower"], ENTRIES["loss"], ENTRIES["split"]):
            assert all(name in ended.stdout for name in names(place))


def test_the_entries_that_are_listed_are_those_that_there_are() -> None:
    every: dict[str, Iterable[str]] = {
        "dataset": DATASETS,
        "split": SPLITS,
        "tower": TOWERS,
        "loss": LOSSES,
        "source": SOURCES,
        "reranker": RERANKERS,
        "baseline": BASELINES,
        "preset": presets(),
    }
    assert {kind: set(names(place)) for kind, place in ENTRIES.items()} == {
        kind: set(found) for kind, found in every.items()
    }


@pytest.mark.parametrize("package", ["train", "tune", "serve", "cluster"])
def test_every_command_says_its_version(package: str) -> None:
    assert python("-m", package, "--version").stdout.startswith("raytower ")


def test_what_is_said_of_verbosity_may_stand_anywhere() -> None:
    assert taken(["bundle", "-q", "--port", "1"]) == (-1, ["bundle", "--port", "1"])
    assert taken(["-v"]) == (1, [])
    assert taken(["--port", "1"]) == (0, ["--port", "1"])


def test_a_fit_without_a_file() -> None:
    ended = python("-m", "train", "fit")
    assert (ended.returncode, "expected a run file" in ended.stderr) == (2, True)


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    command = f"{sys.executable} -m train fit --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


RUN = '[data]\nname = "files"\ninteractions = "events.csv"\nitems = "interactions"\n'


def test_paths_in_a_file_are_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.toml").write_text(RUN)
    (tmp_path / "sub" / "run.toml").write_text('extends = "base.toml"\nstorage = "out"\n')
    (tmp_path / "top.toml").write_text('extends = "sub/run.toml"\nstorage = "s3://b/c"\n')
    monkeypatch.chdir(tmp_path)
    table = read_table("sub/run.toml")
    assert table["storage"] == "sub/out"
    assert table["data"]["interactions"] == "sub/events.csv"
    assert table["data"]["items"] == "interactions"
    assert read_table("top.toml")["storage"] == "s3://b/c"
    absolute = read_table(str(tmp_path / "sub" / "run.toml"))["data"]["interactions"]
    assert absolute == str(tmp_path / "sub" / "events.csv")
    # Flags are relative to the current folder, as those of every command are.
    run = read_run("sub/run.toml", ["--data.interactions", "other.csv"])
    assert run.table()["data"]["interactions"] == "other.csv"
    sweep = 'run = "run.toml"\ntrials = 1\n[space]\ntower.width = { choice = [4, 8] }\n'
    (tmp_path / "sub" / "sweep.toml").write_text(sweep)
    assert read_sweep("sub/sweep.toml").run == "sub/run.toml"
    (tmp_path / "sub" / "sweep.toml").write_text(sweep.replace("run.toml", "demo"))
    assert read_sweep("sub/sweep.toml").run == "demo"


def test_a_table_that_is_named_as_the_place_of_attributes(tmp_path: Path) -> None:
    """`interactions` is a folder where it stands for the interactions, and none elsewhere."""
    (tmp_path / "run.toml").write_text(RUN.replace("events.csv", "interactions"))
    data = read_table(str(tmp_path / "run.toml"))["data"]
    assert data["interactions"] == str(tmp_path / "interactions")
    assert data["items"] == "interactions"


def test_every_mistake_of_a_file_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        f'name = "a/b"\nloss = "bprr"\n{RUN}users = "people.csv"\n[train]\nepochs = 0\n'
    )
    with pytest.raises(ValueError, match="unknown loss") as caught:
        checked_run(str(file))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["name", "loss", "train.epochs"]
    assert lines[3:] == [
        f"no file or folder '{tmp_path}/events.csv' (data.interactions)",
        f"no file or folder '{tmp_path}/people.csv' (data.users)",
    ]
    file.write_text(RUN)
    with pytest.raises(ValueError, match=r"^no file or folder '.*events.csv' \(data.inter.*\)$"):
        checked_run(str(file))
    (tmp_path / "events.csv").touch()
    assert checked_run(str(file)).name == "run"
    file.write_text(f'sources = ["als", "buy_again"]\n{RUN}[train]\nexamples = "users"')
    with pytest.raises(ValidationError) as together:
        read_run(str(file))
    for words in ("buy_again proposes", "sources: expected the tower", "train.examples 'users'"):
        assert words in explain(together.value)


def test_a_preset_that_is_meant_is_proposed() -> None:
    with pytest.raises(FileNotFoundError, match=r"no file 'stdy-b'; .*; did you mean study-b"):
        read_run("stdy-b")
    with pytest.raises(FileNotFoundError, match=r"no file 'tests' \(it is a folder\)"):
        read_run("tests")


def test_files_as_windows_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(b"\xef\xbb\xbf" + RUN.encode())
    assert "data" in read_table(str(file))
    file.write_bytes(RUN.encode() + "# é\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"run.toml: TOML is UTF-8, and line 5 has the byte 0xe9"):
        read_table(str(file))


def test_a_run_is_no_sweep_and_a_sweep_no_run(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "sweep.toml").write_text('run = "run.toml"\ntrials = 1\n[space]\n')
    with pytest.raises(ValueError, match=r"run.toml is a run, not a sweep: python -m train fit"):
        read_sweep(str(tmp_path / "run.toml"))
    with pytest.raises(ValueError, match=r"sweep.toml is a sweep, not a run: python -m tune"):
        read_run(str(tmp_path / "sweep.toml"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('loss = "bprr"', "unknown loss 'bprr'; available: bce, bpr, .*; did you mean bpr?"),
        (
            'tower = "two-tower"',
            r"unknown tower 'two-tower'; available: .*; did you mean two_tower",
        ),
    ],
)
def test_a_name_that_is_meant_is_proposed(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(f"{line}\n{RUN}")
    with pytest.raises(ValueError, match=message):
        read_run(str(tmp_path / "run.toml"))


TOLD = """
import os, signal, sys, time
from cluster.cli import run

def main(words):
    try:
        os.kill(os.getpid(), getattr(signal, words[0]))
        time.sleep(60)
    finally:
        # What is put away takes longer than it may.
        time.sleep(60 if "slow" in words else 0)

sys.argv[1:] = {words!r}
run(main, grace={grace})
"""


@pytest.mark.parametrize(
    ("words", "grace", "code", "said"),
    [
        (["SIGTERM"], None, 143, "\nterminated\n"),
        (["SIGINT"], None, 130, "\ninterrupted\n"),
        (["SIGTERM", "slow"], 0.1, 143, ""),
        (["SIGINT", "slow"], 0.1, 130, ""),
    ],
)
def test_a_command_that_is_told_to_end_does(
    words: list[str], grace: float | None, code: int, said: str
) -> None:
    ended = python("-c", TOLD.format(words=words, grace=grace))
    assert (ended.returncode, ended.stderr) == (code, said)

"""What the command lines say to a mistake: what was expected, what came, what to do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import cli
from train.__main__ import main as train_main

ROOT = Path(__file__).parents[2]
RUN = """
name = "wrong"
storage = "{folder}/runs"

[data]
name = "files"
interactions = "{folder}/events.csv"
timestamp_unit = "order"
items = "{folder}/items.csv"
title = "title"

[data.item_columns]
year = "number"
"""
EVENTS = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{item},{100 * user + item}\n" for user in range(1, 9) for item in range(1, 9)
)
ITEMS = "item_id,title,year\n" + "".join(f"{item},T{item},{1990 + item}\n" for item in range(1, 9))


def exit_of(
    main: Callable[[list[str]], int | None], *words: object, debug: bool = False
) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.run(main, [*map(str, words), *(["--debug"] if debug else [])])
    return ended.value.code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a run file and its data, all in order."""
    (tmp_path / "run.toml").write_text(RUN.format(folder=tmp_path))
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where Ray would be started: a mistake has to be found before."""

    def started(*args: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("train.fit.connect", started)


def rewrite(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def parquet(**columns: pa.Array) -> Callable[[Path], None]:
    """Return what gives the interactions as Parquet, with some columns changed."""

    def change(folder: Path) -> None:
        count = 64
        table = {"user_id": pa.array(range(count)), "item_id": pa.array([1] * count)}
        table |= {"timestamp": pa.array(range(count))} | columns
        pq.write_table(pa.table(table), folder / "events.parquet")
        rewrite("run.toml", "events.csv", "events.parquet")(folder)

    return change


def strangers(folder: Path) -> None:
    """Write interactions whose validation window is of users who are not there before."""
    rows = []
    for user in range(1, 9):
        items = [(user + step) % 8 + 1 for step in range(8)]
        rows += [f"{user},{item},{item}\n" for item in items[:4]]
        rows += [f"{user + 10},{item},{100 + item}\n" for item in items[:2]]
        rows += [f"{user},{item},{200 + item}\n" for item in items[4:6]]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))


def alike(folder: Path) -> None:
    """Write items that all have the same attribute."""
    head, *lines = (folder / "items.csv").read_text().splitlines()
    rows = [f"{line.rpartition(',')[0]},1990" for line in lines]
    (folder / "items.csv").write_text("\n".join([head, *rows, ""]))


def all_at_once(folder: Path) -> None:
    rows = [f"{user},{item},5\n" for user in range(9) for item in range(1, 5)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))


MISTAKES: dict[str, tuple[Callable[[Path], None], list[str], list[str]]] = {
    "missing run file": (
        missing("run.toml"),
        [],
        ["no file '", "run.toml'; expected a TOML file or one of the presets: demo"],
    ),
    "missing data file": (missing("events.csv"), [], ["no file or folder '", "events.csv'"]),
    "missing column": (
        rewrite("events.csv", "user_id", "user"),
        [],
        ["events.csv: no column 'user_id'; it has: user, item_id, timestamp. Set the column names"],
    ),
    "wrong dtype": (
        rewrite("items.csv", "1993", "soon"),
        [],
        ["items.csv: column 'year' (8 rows): expected numbers; 1 is not: 'soon' (row 3)"],
    ),
    "wrong dtype in Parquet": (
        parquet(user_id=pa.array([0.5] * 64)),
        [],
        ["column 'user_id' (64 rows): expected ids, integers or strings; 64 are not"],
    ),
    "empty split": (
        lambda folder: None,
        ["--split.min-user-test", "9"],
        ["empty split: no ", "interactions are left", "Move the cut or lower the minimum counts"],
    ),
    "a validation window of new users": (
        strangers,
        ["--split.name", "time", "--split.at", "200", "--split.validation-at", "100"],
        ["the validation window has 16 interactions of 8 users, and 0 users can be ranked for"],
    ),
    "held-out items that look alike": (
        alike,
        [
            *("--split.name", "hold_out_items", "--split.test", "0.3", "--split.validation", "0.3"),
            *("--catalogue", "all"),
        ],
        ["the test has 3 items without an earlier interaction, and their attributes tell 1 of"],
    ),
    "a split in time of one time": (
        all_at_once,
        ["--split.name", "time"],
        ["all interactions have one time, or none, and the split time needs times: name the"],
    ),
    "no times": (
        rewrite("events.csv", "timestamp", "time"),
        ["--train.half-life", "7"],
        ["all interactions have one time, or none, and train.half_life = 7 needs times"],
    ),
    "a missing column of times": (
        lambda folder: None,
        ["--data.timestamp", "time"],
        ["events.csv: no column 'time'; it has: user_id, item_id, timestamp. Set the column names"],
    ),
    "events without a weight": (
        rewrite("run.toml", 'title = "title"', 'title = "title"\nevents = { buy = 1 }'),
        ["--data.event", "item_id"],
        ["column 'item_id' (64 rows): expected events with a weight in data.events (buy); 8 have"],
    ),
    "duplicate ids": (
        rewrite("items.csv", "2,T2", "3,T2"),
        [],
        ["items.csv: column 'item_id' (8 rows): expected every id once; 2 are not: ", "Keep one"],
    ),
    "NaN timestamps": (
        rewrite("events.csv", ",203\n", ",NaN\n"),
        [],
        ["column 'timestamp' (64 rows): expected a time in every row; 1 is not: 'NaN' (row 11)"],
    ),
    "NaN timestamps in Parquet": (
        parquet(timestamp=pa.array([float("nan"), *map(float, range(63))])),
        [],
        ["column 'timestamp' (64 rows): expected a time in every row; 1 is not: ", "(row 1)"],
    ),
    "unknown key": (
        rewrite("run.toml", 'title = "title"', 'titel = "title"'),
        [],
        ["data.titel: unknown key 'titel'; did you mean title? available: "],
    ),
    "unknown name": (
        lambda folder: None,
        ["--loss.name", "bprr"],
        ["loss: unknown loss 'bprr'; available: bce, bpr, cosine_contrastive, full_softmax"],
    ),
    "unknown tower": (
        lambda folder: None,
        ["--tower.name", "alss"],
        ["tower: unknown tower 'alss'; available: als, dssm, history_transformer, hybrid, light"],
    ),
    "wider than there are items": (
        lambda folder: None,
        ["--tower.name", "svd", "--tower.width", "9"],
        ["svd of rank 9 needs as many warm items, found ", "; lower its rank: that is tower.width"],
    ),
    "weights that cannot count": (
        parquet(rating=pa.array([-1.0] * 64)),
        ["--data.weight", "rating", "--train.weighted"],
        ["weighted: expected weights of 0 and more, not all of them 0, found one of -1; leave "],
    ),
    "weights of an svd that cannot count": (
        parquet(rating=pa.array([0.0] * 64)),
        [
            "--data.weight",
            "rating",
            "--tower.name",
            "svd",
            "--tower.width",
            "2",
            "--tower.weighted",
        ],
        ["weighted: expected weights of 0 and more, not all of them 0, found only 0; leave "],
    ),
    "weights of a linear score that cannot count": (
        parquet(rating=pa.array([-1.0] * 64)),
        ["--data.weight", "rating", "--linear-score.rank", "2", "--linear-score.weighted"],
        ["weighted: expected weights of 0 and more, not all of them 0, found one of -1; leave "],
    ),
    "a reranker's unknown feature": (
        lambda folder: None,
        ["--reranker.name", "logit", "--reranker.features", "linear_score"],
        ["reranker.features: candidates have no linear_score; set linear_score.rank to have one; "],
    ),
    "users as examples with negatives of the batch": (
        lambda folder: None,
        ["--train.examples", "users"],
        ["train.examples 'users' needs negatives that are drawn, and those of the batch are "],
    ),
    "users as examples of sequences": (
        lambda folder: None,
        ["--train.examples", "users", "--tower.name", "history_transformer"],
        ["train.examples: history_transformer learns from whole histories; expected 'interac"],
    ),
    "users as examples, before which": (
        lambda folder: None,
        ["--train.examples", "users", "--train.context", "before", "--loss.name", "full_softmax"],
        ["train.context: a user as an example has no moment to be before; expected 'all', got"],
    ),
    "moments of a graph": (
        lambda folder: None,
        ["--tower.name", "light_gcn", "--train.context", "before"],
        ["train.context: light_gcn learns from the graph of all interactions; expected 'all', "],
    ),
    "unknown data set": (
        rewrite("run.toml", '"files"', '"file"'),
        [],
        ["data: unknown dataset 'file'; available: amazon, files, generated, kion, movielens-100k"],
    ),
    "no TOML": (rewrite("run.toml", "[data]", "[data"), [], ["run.toml is not TOML: "]),
    "unknown scheme": (
        rewrite("run.toml", 'storage = "', 'storage = "nowhere://'),
        [],
        ["unknown scheme 'nowhere'; expected a path, or a URI such as s3://"],
    ),
}


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(("spoil", "flags", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_run_is_said_before_anything_is_done(
    spoil: Callable[[Path], None],
    flags: list[str],
    words: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(folder)
    assert exit_of(train_main, "fit", folder / "run.toml", *flags) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    message = said.err[said.err.index("error: ") :]
    for word in words:
        assert word in message
    assert not (folder / "runs").exists()


@pytest.mark.usefixtures("no_ray")
def test_debug_shows_the_traceback_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing("events.csv")(folder)
    assert exit_of(train_main, "fit", folder / "run.toml", debug=True) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "error: no file or folder" in said


@pytest.mark.usefixtures("local_ray")
def test_workers_that_do_not_fit_leave_the_name_free(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of(train_main, "fit", folder / "run.toml", "--train.workers", "99") == 2
    assert "99 workers with 1 CPU" in capsys.readouterr().err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "fit", "run.toml", "--tran.epochs", "3"], "--tran.epochs"),
        (["train", "recommend", "."], "error: . is not a bundle: it holds no manifest.json"),
        (["serve", "absent"], "error: no bundle at absent: expected a bundle's or a run's folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_real_command_lines(words: list[str], message: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()

"""Listing runs and deleting one."""

import json
from pathlib import Path

import pytest

from cluster import cli
from cluster.lease import leased
from train import __main__ as command


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, files in {
        "done": {"run.json": "{}", "done.json": "{}"},
        "failed": {"run.json": json.dumps({"error": "the loss is nan\nin epoch 2"})},
        "begun": {"run.json": "{}"},
        "sweep": {"sweep.json": "{}", "trials.json": "[]"},
        "notes": {"run.txt": ""},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "done" / "bundles" / "20260101T000000000000Z-abc").mkdir(parents=True)
    (tmp_path / "done" / "bundles" / ".draft-x").mkdir()
    (tmp_path / "mlflow.db").touch()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.run(command.main, [str(word) for word in words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_runs_are_listed_with_their_states(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with leased(str(place / "begun")):
        code, out, _ = said(capsys, "runs", place)
    assert code == 0
    assert [line.split("  ")[0].strip() for line in out.splitlines()] == [
        "begun", "done", "", "failed", "sweep",
    ]  # fmt: skip
    assert "under way: " in out
    assert "bundle 20260101T000000000000Z-abc" in out
    assert "ended with an error: the loss is nan\n" in out
    found = json.loads(said(capsys, "runs", place, "--json")[1])
    assert {of["name"]: of["state"] for of in found}["begun"] == "unfinished; the same fit goes on"
    assert said(capsys, "runs", place / "absent")[0] == 2
    code, _, err = said(capsys, "runs", place / "mlflow.db")
    assert (code, err) == (2, f"error: {place}/mlflow.db is a file; expected a folder with runs\n")


def test_a_run_is_deleted_and_nothing_else(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "remove", place / "done", "--yes")[0] == 0
    assert not (place / "done").exists()
    for name, message in (("notes", "is no run"), ("mlflow.db", "is no run"), ("absent", "no run")):
        code, _, err = said(capsys, "remove", place / name, "--yes")
        assert (code, message in err) == (2, True)
    with leased(str(place / "sweep")):
        code, _, err = said(capsys, "remove", place / "sweep", "--yes")
    assert (code, "is being written by process" in err) == (2, True)
    assert (place / "sweep").exists()


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("y", False)])
def test_it_asks_first(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    left: bool,
) -> None:
    assert "say --yes" in said(capsys, "remove", place / "done")[2]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    said(capsys, "remove", place / "done")
    assert (place / "done").exists() == left

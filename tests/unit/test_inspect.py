"""What reading says that it read."""

import json
from pathlib import Path
from typing import Any

import pytest

from train import __main__ as command
from train.config import Run
from train.inspect import inspect, lines

EVENTS = """user,item,day,stars
1,a,2024-01-01,5
1,a,2024-01-01,5
1,b,2024-01-01,3
1,d,2024-01-01,4
2,a,2024-01-02,5
2,a,2024-01-03,1
2,b,2024-01-05,5
2,d,2024-01-07,5
3,c,2024-01-08,5
4,b,2024-01-09,5
,b,2024-01-09,5
"""
SPLIT = {"name": "time", "at": 1704585600, "validation_at": 1704326400}


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "events"
    folder.mkdir()
    (folder / "part-0.csv").write_text(EVENTS)
    (folder / "_SUCCESS").touch()
    (tmp_path / "items.csv").write_text("item\na\nb\nz\n")
    data = {
        "name": "files",
        "interactions": str(folder),
        "items": str(tmp_path / "items.csv"),
        "user_id": "user",
        "item_id": "item",
        "timestamp": "day",
        "weight": "stars",
        "min_weight": 2,
        "missing_ids": "drop",
    }
    return {"data": data, "split": SPLIT}


def test_figures_are_those_of_the_tables(table: dict[str, Any]) -> None:
    found = inspect(Run.model_validate(table))
    files = found["files"]["interactions"]
    assert (files["count"], files["files"]) == (1, ["part-0.csv"])
    assert files["reasons"] == {"_SUCCESS": "hidden"}
    assert found["rows"] == 11
    assert found["dropped"] == {
        "without an id": 1,
        "of events that weigh 0": 0,
        "below min_weight": 1,
    }
    assert found["ids"]["user"] == {"type": "integer", "count": 4, "examples": [1, 2, 3]}
    assert found["ids"]["item"] == {
        "type": "string",
        "count": 4,
        "examples": ["a", "b", "d"],
        "in_table": (2, 4, 3),
    }
    assert found["interactions"] == 9
    assert (found["pairs"], found["exact_repeats"]) == (8, 1)
    assert (found["users"], found["items"]) == (4, 4)
    assert found["tied_rows"] == 4
    assert found["density"] == 0.5
    assert (found["median_history"], found["longest_history"]) == (2.0, 4)
    assert (found["first"], found["last"]) == (1704067200, 1704758400)
    assert sum(found["histogram"]) == 9
    window = found["test"]["window"]
    # From 7 January on: users 2, 3 and 4, of whom the last two are new.
    assert (window["rows"], window["users"], window["cold_users"]) == (3, 3, 2)


def test_lines_say_it_in_words(table: dict[str, Any]) -> None:
    text = "\n".join(lines(inspect(Run.model_validate(table))))
    assert "1 passed over: _SUCCESS (hidden)" in text
    assert "rows: 11 read; dropped: 1 without an id, 1 below min_weight" in text
    assert "item: 4 strings ('a', 'b', 'd', ...); 2 of 4 are in their table, which has 1" in text
    assert "times: 2024-01-01 00:00:00 to 2024-01-09 00:00:00; 4 at the same time" in text
    assert "2 of the 3 users of the test window are new" in text


def test_a_split_that_cannot_be_is_told_after_the_figures(table: dict[str, Any]) -> None:
    table["split"] = {"name": "time", "at": 0}
    text = "\n".join(lines(inspect(Run.model_validate(table))))
    assert "rows: 11 read" in text
    assert "split: refused: " in text


def test_without_times(table: dict[str, Any]) -> None:
    del table["data"]["timestamp"], table["split"]
    found = inspect(Run.model_validate(table))
    assert found["timed"] is False
    assert "times: none" in "\n".join(lines(found))


def test_the_command(
    tmp_path: Path, table: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    pairs = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table["data"].items())
    file.write_text(f'[data]\n{pairs}\n[split]\nname = "last_days"\ndays = 2\n')
    command.main(["inspect", str(file), "--json"])
    assert json.loads(capsys.readouterr().out)["rows"] == 11
    command.main(["inspect", str(file)])
    assert "rows: 11 read" in capsys.readouterr().out

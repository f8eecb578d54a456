"""The harness of mutants, over a product of one function: what it catches and what it reports."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import CHECKOUT, HERE, main
from tests.mutants.mutant import problems, read

TEST = "tests/test_sums.py"
SOURCES = {
    "product/sums.py": "def total(values):\n    return sum(values) + 0\n",
    TEST: (
        "from product.sums import total\n\n\n"
        "def test_some():\n    assert total([1, 2]) == 3\n\n\n"
        "def test_none():\n    assert total([]) == 0\n"
    ),
    "runs/old.py": "assert False\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def plant(checkout: Path, name: str, old: str, new: str, test: str = TEST) -> Path:
    """Add a mutant to the folder of a checkout's mutants; return the folder."""
    folder = checkout / "mutants"
    folder.mkdir(exist_ok=True)
    table = {"bug": "The sum is wrong.", "file": "product/sums.py", "old": old, "new": new}
    lines = [f"{key} = '{value}'" for key, value in table.items()]
    lines.append(f"tests = ['{test}']")
    (folder / f"{name}.toml").write_text("\n".join([f"[{name}]", *lines]))
    return folder


def test_every_mutant_still_applies() -> None:
    mutants = read(HERE)
    assert len(mutants) >= 40
    assert [problem for mutant in mutants for problem in problems(mutant, CHECKOUT)] == []


def test_what_is_caught_and_what_survives_is_reported(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(checkout, "one_more", "+ 0", "+ 1")
    folder = plant(checkout, "float_zero", "+ 0", "+ 0.0")
    assert main(["-k", "one_more"], folder, checkout) == 0
    assert f"caught   one_more: {TEST}::test_some" in capsys.readouterr().out
    assert main([], folder, checkout) == 1
    out = capsys.readouterr().out
    assert "caught   one_more" in out
    assert "survived float_zero: The sum is wrong." in out
    assert "== float_zero: survived" in out
    assert "2 mutants: 1 caught, 1 survived" in out
    assert {path: (checkout / path).read_text() for path in SOURCES} == SOURCES


def test_a_bug_that_no_test_can_import_is_not_caught(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = plant(checkout, "no_syntax", "return", "retrun")
    assert main([], folder, checkout) == 1
    assert "== no_syntax: error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "test", "message"),
    [
        ("+ 2", TEST, "planted does not apply: product/sums.py has its old text 0 times"),
        ("s", TEST, "planted does not apply: product/sums.py has its old text 3 times"),
        ("+ 0", f"{TEST}::test_all", f"planted names a test that is not there: {TEST}::test_all"),
        ("+ 0", "tests/test_no.py", "planted names a test that is not there: tests/test_no.py"),
    ],
)
def test_a_mutant_that_cannot_be_tried_is_named_before_any_is(
    checkout: Path, capsys: pytest.CaptureFixture[str], old: str, test: str, message: str
) -> None:
    plant(checkout, "one_more", "+ 0", "+ 1")
    folder = plant(checkout, "planted", old, "+ 1", test)
    for arguments in [["--check"], []]:
        assert main(arguments, folder, checkout) == 1
        out = capsys.readouterr().out
        assert message in out
        assert "caught" not in out


def test_the_nearest_line_is_shown(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = plant(checkout, "planted", "return sum(values) + 2", "return 0")
    assert main(["--check"], folder, checkout) == 1
    assert "product/sums.py:2: return sum(values) + 0" in capsys.readouterr().out


def test_nothing_is_tried_where_tests_fail_without_a_bug(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = plant(checkout, "one_more", "+ 0", "+ 1")
    (checkout / "product/sums.py").write_text("def total(values):\n    return 7 + 0\n")
    assert main([], folder, checkout) == 1
    out = capsys.readouterr().out
    assert f"FAILED {TEST}::test_some" in out
    assert "caught" not in out


def test_a_table_that_lacks_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text("[planted]\nfile = 'a'\n")
    with pytest.raises(ValueError, match=r"some.toml: \[planted\] needs the keys bug, file, "):
        read(tmp_path)

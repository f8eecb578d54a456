"""What travels with a job: what git tracks, and what is asked for."""

import subprocess
from pathlib import Path

import pytest

from cluster import shipping


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with tracked, untracked and ignored files."""
    for name in ("cluster/shipping.py", "train/fit.py", ".gitignore", "README.md"):
        write(tmp_path / name, "*.csv\n" if name == ".gitignore" else name)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    write(tmp_path / "big.csv", "ignored")
    write(tmp_path / "notes.txt", "untracked")
    write(tmp_path / "train" / "mine.py", "untracked")
    monkeypatch.setattr(shipping, "CHECKOUT", tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def shipped(*with_files: Path) -> dict[str, str]:
    with shipping.checkout(with_files) as environment:
        folder = Path(environment["working_dir"])
        files = [path for path in folder.rglob("*") if path.is_file()]
        found = {path.relative_to(folder).as_posix(): path.read_text() for path in files}
    assert not folder.exists()
    return found


TRACKED = {"cluster/shipping.py", "train/fit.py", "README.md"}


def test_what_git_tracks_travels_and_code_that_does_not_is_named(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shipped().keys() == TRACKED
    assert capsys.readouterr().err == (
        "not shipped, because git does not track it (git add): train/mine.py\n"
    )


def test_a_deleted_file_and_an_edit_are_as_they_are_now(repository: Path) -> None:
    (repository / "README.md").unlink()
    write(repository / "train" / "fit.py", "edited")
    found = shipped()
    assert found.keys() == TRACKED - {"README.md"}
    assert found["train/fit.py"] == "edited"


def test_files_that_are_asked_for_travel_even_if_git_ignores_them(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    apart = tmp_path_factory.mktemp("apart")
    write(apart / "tables" / "items.csv", "items")
    found = shipped(repository / "big.csv", apart / "tables")
    assert found.keys() == TRACKED | {"big.csv", "tables/items.csv"}
    with pytest.raises(FileNotFoundError, match=r"--with .*nothing\.csv: there is no such file"):
        shipped(apart / "nothing.csv")
    one, other = write(apart / "1" / "run.toml", ""), write(apart / "2" / "run.toml", "")
    with pytest.raises(ValueError, match=r"would both travel as run\.toml"):
        shipped(one, other)


def test_too_much_is_said_with_the_largest_file(repository: Path) -> None:
    with (repository / "big.csv").open("wb") as file:
        file.truncate(shipping.MOST_BYTES)
    with pytest.raises(
        ValueError, match=r"100 MB would travel .* the largest is big\.csv with 100"
    ):
        shipped(repository / "big.csv")


def test_without_git_the_packages_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cluster/shipping.py", "train/__pycache__/fit.pyc", "runs/x/bundle", "big.csv"):
        write(tmp_path / name, name)
    monkeypatch.setattr(shipping, "CHECKOUT", tmp_path)
    # A repository above it is not the checkout's.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert shipped().keys() == {"cluster/shipping.py"}

"""What the command lines say of bundles that are none, or damaged, and to questions of one."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.__main__ import main as serve_main
from tests.bundles import write_bundle
from tests.integration.test_errors import exit_of
from train.__main__ import main as train_main


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles"), users=30, items=60, trees=3)


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


READERS: dict[str, tuple[Callable[[list[str]], int | None], list[str]]] = {
    "evaluate": (train_main, ["evaluate"]),
    "recommend": (train_main, ["recommend"]),
    "report": (train_main, ["report"]),
    "serve": (serve_main, []),
}


@pytest.mark.parametrize(("main", "words"), READERS.values(), ids=READERS)
def test_each_file_of_a_bundle_flipped_by_a_byte_is_found(
    main: Callable[[list[str]], int | None],
    words: list[str],
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in sorted(copy.iterdir()):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert exit_of(main, *words, copy) == 2, path.name
        said = capsys.readouterr().err
        assert f"is damaged: {path.name}: " in said
        assert "copy it again or write it anew" in said
        assert "Traceback" not in said
        path.write_bytes(content)


@pytest.mark.parametrize(("main", "words"), READERS.values(), ids=READERS)
def test_what_is_no_bundle_is_said(
    main: Callable[[list[str]], int | None],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_of(main, *words, tmp_path / "absent") == 2
    assert "absent: expected a bundle's or a run's folder" in capsys.readouterr().err
    assert exit_of(main, *words, tmp_path) == 2
    said = capsys.readouterr().err
    assert "is not a bundle: it holds no manifest.json" in said
    assert "give a folder that `python -m train fit` wrote" in said
    (tmp_path / "manifest.json").write_text('{"format": "other"}')
    assert exit_of(main, *words, tmp_path) == 2
    assert "expected manifest.json with format 'raytower-bundle'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--user-id", "seven"], "--user-id: the ids of this bundle are integers, got ['seven']"),
        (["--history", "5", "x"], "--history: the ids of this bundle are integers, got ['5', 'x']"),
        (["--k", "0"], "--k: expected at least 1, got 0"),
        (["--kay", "5"], "unknown arguments: --kay 5; see --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_a_question_is_said(
    words: list[str], said: str, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of(train_main, "recommend", written, *words) == 2
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_said(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert exit_of(serve_main, written, "--port", port) == 2
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in said
    assert "choose another port with --port" in said

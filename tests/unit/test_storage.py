"""Files and folders by path and by URI; `memory://` is fsspec's object store in this process."""

import errno
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cluster import copies, storage

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["path", "file URI", "memory URI"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to put things: a folder, its URI, and an object store."""
    return {
        "path": f"{tmp_path}/place",
        "file URI": f"file://{tmp_path}/place",
        "memory URI": f"memory://{uuid.uuid4().hex}",
    }[request.param]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "deeper" / "b.txt").write_text("b")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def content(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_file_comes_back_as_it_was_written(place: str) -> None:
    file = storage.join(place, "some", "file.bin")
    assert not storage.exists(file)
    storage.write_bytes(file, b"first")
    storage.write_bytes(file, b"second")
    assert storage.read_bytes(file) == b"second"
    assert storage.exists(file)
    assert storage.names(storage.join(place, "some")) == ["file.bin"]
    assert storage.names(storage.join(place, "nothing")) == []


def test_what_could_not_be_written_is_named(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from cluster import cli, storage

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cli.run(lambda words: storage.write_bytes(words[0], bytes(2000)))
"""
    file = tmp_path / "folder" / "some.bin"
    command = [sys.executable, "-c", program, str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {file}: File too large; ")
    assert f" MB are free in {file.parent}: make room there" in ended.stderr
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("words", ["Error: No space left on device (os error 28)", "Other"])
def test_a_full_disk_that_a_library_speaks_of_is_an_error_of_the_user(
    tmp_path: Path, words: str
) -> None:
    file, raised = tmp_path / "absent" / "model", RuntimeError(words)
    with pytest.raises((OSError, RuntimeError)) as caught, storage.writing(file):
        raise raised
    if words == "Other":
        assert caught.value is raised
    else:
        assert isinstance(caught.value, OSError)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))


def test_a_missing_file_is_named(place: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.json"):
        storage.read_bytes(storage.join(place, "gone.json"))


def test_a_folder_comes_back_as_it_was_put(place: str, folder: Path) -> None:
    storage.put_folder(folder, storage.join(place, "bundle"))
    assert storage.names(place) == ["bundle"]
    assert content(copies.get_folder(storage.join(place, "bundle"))) == content(folder)


def test_a_folder_that_is_there_is_not_overwritten(place: str, folder: Path) -> None:
    target = storage.join(place, "bundle")
    storage.put_folder(folder, target)
    before = content(copies.get_folder(target))
    (folder / "a.bin").write_bytes(b"other")
    with pytest.raises(FileExistsError, match="is there already"):
        storage.put_folder(folder, target)
    assert content(copies.get_folder(target)) == before


def test_a_local_copy_that_fails_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    (folder / "z.bin").symlink_to("nowhere")
    with pytest.raises(OSError, match=r"cannot copy .*/folder/z\.bin: .*No such file"):
        storage.put_folder(folder, tmp_path / "place" / "bundle")
    assert list((tmp_path / "place").iterdir()) == []


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from cluster import copies, storage
{step} = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
storage.put_folder(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize(
    ("step", "files"), [("shutil.copystat", 1), ("os.fsync", 3), ("os.rename", 3)]
)
def test_a_local_copy_that_is_killed_leaves_nothing_under_its_name(
    step: str, files: int, folder: Path, tmp_path: Path
) -> None:
    """It is killed once a file is copied, once all are, and once all are on the disk."""
    place = tmp_path / "place"
    code = KILLED.format(step=step)
    done = subprocess.run([sys.executable, "-c", code, folder, place / "x"], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not (place / "x").exists()
    (part,) = place.iterdir()
    assert len(content(part)) == files


def test_at_a_uri_the_manifest_comes_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    copy = pafs.copy_files

    def watched(source: str, target: str, **options: object) -> None:
        copied.append(Path(source).name)
        copy(source, target, **options)

    monkeypatch.setattr(pafs, "copy_files", watched)
    storage.put_folder(folder, f"memory://{uuid.uuid4().hex}/bundle")
    assert copied == ["a.bin", "b.txt", "manifest.json"]


def test_an_upload_that_breaks_off_is_not_there_and_can_be_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"memory://{uuid.uuid4().hex}/bundle"
    copy = pafs.copy_files

    def broken(source: str, target: str, **options: object) -> None:
        if source.endswith("b.txt"):
            raise OSError("connection lost")
        copy(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pafs, "copy_files", broken)
        with pytest.raises(OSError, match="connection lost"):
            storage.put_folder(folder, target)
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        copies.get_folder(target)
    storage.put_folder(folder, target)
    assert content(copies.get_folder(target)) == content(folder)


def test_a_folder_without_a_manifest_cannot_go_to_a_uri(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        storage.put_folder(folder, f"memory://{uuid.uuid4().hex}/bundle")


def test_a_copy_from_a_uri_is_kept_until_its_manifest_changes(folder: Path, cache: Path) -> None:
    target = f"memory://{uuid.uuid4().hex}/bundle"
    storage.put_folder(folder, target)
    first = copies.get_folder(target)
    assert copies.get_folder(target) == first
    assert first.is_relative_to(cache)
    storage.write_bytes(storage.join(target, "manifest.json"), b'{"new": 1}')
    second = copies.get_folder(target)
    assert (second / "manifest.json").read_bytes() == b'{"new": 1}'
    assert second != first


def test_processes_may_fetch_the_same_folder_at_the_same_time(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"memory://{uuid.uuid4().hex}/bundle"
    storage.put_folder(folder, target)
    copy = pafs.copy_files

    def slower(source: str, target: str, **options: object) -> None:
        copy(source, target, **options)
        part = Path(target)
        copy(source, str(part.with_name(part.name.split(".")[1])), **options)

    monkeypatch.setattr(pafs, "copy_files", slower)
    assert content(copies.get_folder(target)) == content(folder)
    assert len(list((cache / "raytower").iterdir())) == 1


def test_copies_that_nobody_asks_for_make_room(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [f"memory://{uuid.uuid4().hex}/bundle" for _ in range(4)]
    for target in targets:
        storage.put_folder(folder, target)
    size = sum(file.stat().st_size for file in folder.rglob("*"))
    monkeypatch.setenv("RAYTOWER_CACHE_BYTES", str(2 * size))
    made = [copies.get_folder(target) for target in targets[:3]]
    assert all(path.exists() for path in made)  # they may be in use
    long_ago = time.time() - 2 * copies.UNUSED_SECONDS
    for path in made[:2]:
        os.utime(path, (long_ago, long_ago))
    assert copies.get_folder(targets[1]) == made[1]  # and is in use again
    newest = copies.get_folder(targets[3])
    assert [path.exists() for path in (*made, newest)] == [False, True, True, True]
    assert content(copies.get_folder(targets[0])) == content(folder)
    assert not [path for path in (cache / "raytower").iterdir() if path.name.startswith(".")]


def test_a_path_is_used_where_it_is(folder: Path) -> None:
    assert copies.get_folder(folder) == folder
    with pytest.raises(FileNotFoundError, match="no such folder"):
        copies.get_folder(folder / "gone")


def test_a_relative_path_is_that_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert storage.absolute("runs/x") == f"{tmp_path}/runs/x"
    assert storage.absolute("~/runs") == "/home/somebody/runs"
    assert storage.absolute("s3://bucket/runs") == "s3://bucket/runs"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("nosuch://bucket/x", "unknown scheme 'nosuch'; expected a path, or a URI such as s3://"),
        ("s3:///x", "cannot read 's3:///x' as a URI: Missing bucket name"),
    ],
)
def test_a_uri_that_cannot_be_opened_says_why(uri: str, says: str) -> None:
    with pytest.raises(ValueError, match="URI") as caught:
        storage.read_bytes(uri)
    assert says in str(caught.value)

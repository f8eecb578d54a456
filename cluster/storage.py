"""Files and folders by path or URI, through pyarrow.fs and, for schemes it has not, fsspec.

Folders are written atomically: whole or not at all. On a file system a folder is written under
another name and renamed. Object stores have no rename, so `manifest.json` comes last there, and a
folder without one is not there yet.
"""

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

MANIFEST = "manifest.json"
# Of a place that takes no more, or nothing. Libraries say it in words, by errors of their own.
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_WORDS = re.compile("|".join(re.escape(os.strerror(number)) for number in REFUSED))


def absolute(uri: str | os.PathLike[str]) -> str:
    """Return an absolute path, relative to this process's folder; a URI as it is.

    Ray's workers run in other folders, so the driver resolves paths.
    """
    text = os.fspath(uri)
    return text if is_uri(text) else str(Path(text).expanduser().absolute())


def is_uri(uri: str | os.PathLike[str]) -> bool:
    """Return whether a text is a URI (`s3://bucket/folder`), not a path."""
    return "://" in os.fspath(uri)


def join(uri: str | os.PathLike[str], *names: str) -> str:
    """Return the path or URI of a file or folder below another one."""
    text = os.fspath(uri)
    # The query of a URI (`?endpoint_override=...`) is of the store, and stays at the end.
    path, mark, query = text.partition("?") if is_uri(text) else (text, "", "")
    return "/".join([path.rstrip("/"), *names]) + mark + query


def parent(uri: str | os.PathLike[str]) -> str:
    """Return the path or URI of the folder that a file or folder is in."""
    text = os.fspath(uri)
    path, mark, query = text.partition("?") if is_uri(text) else (text, "", "")
    return path.rstrip("/").rpartition("/")[0] + mark + query


def filesystem(uri: str | os.PathLike[str]) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a path or URI, and its path there.

    Raises:
        ValueError: the scheme is unknown, or the URI is malformed.
    """
    text = absolute(uri)
    if not is_uri(text):
        return pafs.LocalFileSystem(), text
    try:
        place, path = pafs.FileSystem.from_uri(text)
    except pa.ArrowInvalid as error:
        if "Unrecognized" not in str(error):
            raise ValueError(f"cannot read {text!r} as a URI: {error}") from error
        return _fsspec(text)
    return place, path


def _fsspec(uri: str) -> tuple[pafs.FileSystem, str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        scheme = uri.split("://")[0]
        raise ValueError(
            f"cannot open {uri!r}: unknown scheme {scheme!r}; expected a path, or a URI such as "
            f"s3://bucket/folder, gs://..., hdfs://..., abfs://... ({error})"
        ) from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(system)), path


def exists(uri: str | os.PathLike[str]) -> bool:
    """Return whether a file or folder exists."""
    place, path = filesystem(uri)
    return bool(place.get_file_info(path).type != pafs.FileType.NotFound)


def is_folder(uri: str | os.PathLike[str]) -> bool:
    """Return whether a folder exists."""
    place, path = filesystem(uri)
    return bool(place.get_file_info(path).type == pafs.FileType.Directory)


def names(uri: str | os.PathLike[str]) -> list[str]:
    """Return the sorted names of a folder's files and folders; none if there is no such folder."""
    place, path = filesystem(uri)
    infos = place.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos)


def read_bytes(uri: str | os.PathLike[str]) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: it is not there.
    """
    place, path = filesystem(uri)
    if place.get_file_info(path).type != pafs.FileType.File:
        raise FileNotFoundError(f"no such file: {os.fspath(uri)}")
    with place.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def write_bytes(uri: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically; missing folders are created."""
    place, path = filesystem(uri)
    place.create_dir(path.rpartition("/")[0] or "/", recursive=True)
    if isinstance(place, pafs.LocalFileSystem):
        with appearing(Path(path)) as part:
            part.write_bytes(content)
            _sync(part)
    else:
        # An object appears when its stream is closed.
        with place.open_output_stream(path) as stream:
            stream.write(content)


@contextlib.contextmanager
def writing(target: str | os.PathLike[str]) -> Iterator[None]:
    """Say in errors of a full disk, and the like, what could not be written, and where.

    Raises:
        OSError: with the target as its file, instead of any error that says of a disk that it is
            full or takes nothing.
    """
    try:
        yield
    except Exception as error:
        words = _WORDS.search(str(error))
        said = words[0] if words else os.strerror(getattr(error, "errno", None) or 0)
        number = next((of for of in REFUSED if os.strerror(of) == said), None)
        if number is None:
            raise
        raise OSError(number, f"{said}; {_room(Path(target))}", os.fspath(target)) from error


def _room(target: Path) -> str:
    """Return how much room there is for a file or folder, and what to do."""
    folder = next(of for of in (target, *target.parents) if of.is_dir())
    free = shutil.disk_usage(folder).free
    return (
        f"{free / 1e6:,.1f} MB are free in {folder}: make room there, or choose another place, and "
        "repeat the command"
    )


def remove(uri: str | os.PathLike[str]) -> None:
    """Delete a file, or a folder with all that is in it; nothing where there is none."""
    place, path = filesystem(uri)
    kind = place.get_file_info(path).type
    # It may go while it is looked at.
    with contextlib.suppress(FileNotFoundError):
        if kind == pafs.FileType.Directory:
            place.delete_dir(path)
        elif kind == pafs.FileType.File:
            place.delete_file(path)


def sweep(uri: str | os.PathLike[str]) -> None:
    """Delete what processes that were killed left of unfinished files in a folder and below.

    Nothing else may write there. At a URI there is nothing: objects appear whole.
    """
    place, path = filesystem(uri)
    if isinstance(place, pafs.LocalFileSystem):
        for part in [*Path(path).rglob(".*.part"), *Path(path).rglob(".draft-*")]:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink()


def put_folder(folder: Path, uri: str | os.PathLike[str], last: str = MANIFEST) -> None:
    """Copy a local folder atomically to a path or URI.

    Args:
        folder: to copy.
        uri: of the copy.
        last: the file that is written last and marks the copy as complete; a URI needs it.

    Raises:
        FileExistsError: something is there already.
        ValueError: it goes to a URI, and has no file to come last.
    """
    place, path = filesystem(uri)
    local = isinstance(place, pafs.LocalFileSystem)
    if exists(uri if local else join(uri, last)):
        raise FileExistsError(f"{os.fspath(uri)} is there already; it is not overwritten")
    if local:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with appearing(Path(path)) as part:
            _copy(folder, part)
            _sync(*part.rglob("*"), part)
    else:
        _upload(folder, place, path, last)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` at the end, or is removed after an error.

    Raises:
        FileExistsError: something is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; choose another name, or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with appearing(folder) as part:
        part.mkdir()
        yield part


def _copy(folder: Path, target: Path) -> None:
    try:
        shutil.copytree(folder, target)
    except shutil.Error as error:
        file, _, why = error.args[0][0]
        raise OSError(f"cannot copy {file}: {why}") from error


def _upload(folder: Path, place: pafs.FileSystem, path: str, last: str) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if folder / last not in files:
        raise ValueError(f"{folder} has no {last}, which has to come last at a URI")
    files.sort(key=lambda file: file == folder / last)
    for file in files:
        target = join(path, file.relative_to(folder).as_posix())
        place.create_dir(target.rpartition("/")[0], recursive=True)
        pafs.copy_files(str(file), target, destination_filesystem=place)


@contextlib.contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside the target, renamed at the end, or removed after an error."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with writing(target):
            yield part
            part.rename(target)
            _sync(target.parent)
    except BaseException:
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        raise


def _sync(*paths: Path) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""What travels to the nodes of a cluster: files that git tracks, and those that are asked for."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
# Where git does not know the checkout (an archive that was unpacked), what commands import.
PACKAGES = ("cluster", "train", "tune", "serve")
# They would hold back what was asked for; what they name is not tracked anyway.
IGNORES = (".gitignore", ".rayignore")
# Ray's dashboard takes no more in one request.
MOST_BYTES = 100 * 1024**2


@contextmanager
def checkout(with_files: Sequence[Path] = ()) -> Iterator[dict[str, Any]]:
    """Yield the runtime environment with which Ray ships this checkout, while it is shipped.

    Args:
        with_files: files and folders to ship besides what git tracks. Those of the checkout keep
            their place in it; others come to its top.

    Raises:
        FileNotFoundError: one of `with_files` is not there.
        ValueError: two have the same place, or all together are larger than Ray takes.
    """
    # They would log every ignore file that they read.
    for name in ("packaging", "working_dir"):
        logging.getLogger(f"ray._private.runtime_env.{name}").setLevel(logging.ERROR)
    files = _tracked() | _asked_for(with_files)
    _check_size(files)
    with tempfile.TemporaryDirectory(prefix="raytower-") as folder:
        for place, file in files.items():
            target = Path(folder) / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        yield {"working_dir": folder}


def _tracked() -> dict[str, Path]:
    """Return files of the checkout by their place in it, and say which of ours are left out."""
    listed = _git("ls-files", "-z", "--cached")
    if "cluster/shipping.py" not in listed:
        found = [path for name in PACKAGES for path in (CHECKOUT / name).rglob("*")]
        names = [path.relative_to(CHECKOUT).as_posix() for path in found]
        listed = [name for name in names if "__pycache__" not in name] + ["pyproject.toml"]
    else:
        _tell(_git("ls-files", "-z", "--others", "--exclude-standard", "--", *PACKAGES))
    kept = [name for name in listed if Path(name).name not in IGNORES]
    return {name: CHECKOUT / name for name in kept if (CHECKOUT / name).is_file()}


def _git(*words: str) -> list[str]:
    """Return the names that git lists; none where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *words], capture_output=True, check=False
        )
    except FileNotFoundError:
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _tell(untracked: Sequence[str]) -> None:
    if untracked:
        some = ", ".join(untracked[:5]) + (", ..." if len(untracked) > 5 else "")
        print(f"not shipped, because git does not track it (git add): {some}", file=sys.stderr)


def _asked_for(with_files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for given in with_files:
        path = given.expanduser().absolute()
        if not path.exists():
            raise FileNotFoundError(f"--with {given}: there is no such file here")
        top = CHECKOUT if path.is_relative_to(CHECKOUT) else path.parent
        for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
            place = file.relative_to(top).as_posix()
            if found.setdefault(place, file) != file:
                raise ValueError(f"--with: {found[place]} and {file} would both travel as {place}")
    return found


def _check_size(files: Mapping[str, Path]) -> None:
    sizes = {place: file.stat().st_size for place, file in files.items()}
    total = sum(sizes.values())
    if total >= MOST_BYTES:
        largest = max(sizes, key=lambda place: sizes[place])
        raise ValueError(
            f"{total / 1024**2:,.0f} MB would travel with the job, and Ray takes less than "
            f"{MOST_BYTES / 1024**2:.0f} MB; the largest is {largest} with "
            f"{sizes[largest] / 1024**2:,.0f} MB: put data where every node reads them (a shared "
            "folder or a URI), and keep them out of git and of --with"
        )

"""Opening a bundle for the first time, in a process that may die of it.

A graph, a model or a table that was crafted, or is damaged in a way that its library does not see,
takes down the process that reads it. So a bundle that was not made on this machine is opened once
by `python -m train.bundle.trial FOLDER`; that it went well is kept in the cache, by the checksum of
its manifest, which is one over all its files.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from cluster import copies, storage
from train.bundle.manifest import BundleError

# Seconds: a bundle that takes longer to open is none.
PATIENCE = 600


def mark(folder: Path) -> None:
    """Keep that a bundle can be opened."""
    copies.remember(_mark(folder))


def tried(folder: Path) -> None:
    """Open a bundle in another process, unless that was done before.

    Raises:
        BundleError: that process died.
    """
    if _mark(folder).exists():
        return
    words = [sys.executable, "-m", "train.bundle.trial", str(folder)]
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise BundleError(f"bundle {folder}: opening it takes more than {PATIENCE} s") from None
    if done.returncode < 0:
        raise BundleError(
            f"bundle {folder}: a process that opened it died of signal {-done.returncode}; its "
            "files are damaged or were crafted: copy it again or write it anew"
        )
    if done.returncode == 0:
        mark(folder)


def _mark(folder: Path) -> Path:
    checksum = hashlib.sha256((folder / storage.MANIFEST).read_bytes()).hexdigest()
    return copies.cache() / "opened" / checksum


def main(folder: Path) -> int:
    """Open a bundle and ask it once; 1 where it says itself what is wrong with it."""
    from train.bundle.opening import open_untried, verified
    from train.recommender.answers import recommend
    from train.recommender.requests import Request

    try:
        recommender = open_untried(folder, verified(folder)).recommender
        ids = recommender.users.ids
        recommend(recommender, [Request(user_id=ids[at].as_py()) for at in range(min(9, len(ids)))])
        # One that no request is searched with is not read yet.
        if (graph := getattr(recommender.index, "graph", None)) is not None:
            graph.get_current_count()
    except Exception as error:  # whatever it is, it is no crash; who opens it next is told
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

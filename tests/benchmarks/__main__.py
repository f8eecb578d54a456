"""`python -m tests.benchmarks [NAME ...]`: run the named benchmarks, or all, one after another.

A benchmark is a module here with a `main`; each runs in a process of its own. Names that end in
`_server` are programs that a benchmark starts.
"""

import subprocess
import sys
from pathlib import Path

from cluster.command import run, unknown


def available() -> list[str]:
    """Return the names of all benchmarks."""
    paths = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [path.stem for path in paths if not path.stem.endswith("_server")]


def main(names: list[str]) -> int:
    """Run them; 1 if any failed.

    Raises:
        ValueError: there is no benchmark of a name.
    """
    for name in names:
        if name not in available():
            raise ValueError(unknown("benchmark", name, available()))
    failed = 0
    for name in names or available():
        print(f"== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"]).returncode
    return int(bool(failed))


if __name__ == "__main__":
    run(main)

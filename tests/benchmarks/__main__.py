"""`python -m tests.benchmarks [NAME ...]`: run the named benchmarks, or all, one after another.

A benchmark is a module here with a `main`; each runs in a process of its own. Names that end in
`_server` are programs that a benchmark starts, in `_sets` the data of one. Lines that begin with
`ratio` are shown once more at the end, together. Words from the first flag on are handed on to the
benchmarks that are named: `python -m tests.benchmarks defaults --data FOLDER ml-100k`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from cluster.cli import run, unknown


def available() -> list[str]:
    """Return the names of all benchmarks."""
    paths = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [path.stem for path in paths if not path.stem.endswith(("_server", "_sets"))]


def main(words: list[str]) -> int:
    """Run the named benchmarks, or all; 1 if any failed.

    Raises:
        ValueError: there is no benchmark of a name.
    """
    flag = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names, flags = words[:flag], words[flag:]
    for name in names:
        if name not in available():
            raise ValueError(unknown("benchmark", name, available()))
    ended = {name: _run(name, flags if names else []) for name in names or runnable()}
    print("== ratios", flush=True)
    for name, (code, ratios) in ended.items():
        for line in ratios or ["failed" if code else "no ratio"]:
            print(f"{name:12} {line}")
    return int(any(code for code, _ in ended.values()))


def runnable() -> list[str]:
    """Return the names of those whose programs are installed; say which are left out."""
    found = available()
    print("== quality needs data: python -m tests.benchmarks.quality --data FOLDER", flush=True)
    found.remove("quality")
    print("== defaults needs data: python -m tests.benchmarks.defaults --data FOLDER", flush=True)
    found.remove("defaults")
    print("== picks needs data: python -m tests.benchmarks.picks --data FOLDER", flush=True)
    found.remove("picks")
    print(
        "== others needs data, and libraries in a Python of their own: "
        "python -m tests.benchmarks.others --data FOLDER --rectools PYTHON --recbole PYTHON",
        flush=True,
    )
    found.remove("others")
    print("== baselines has picks on real data: --data FOLDER", flush=True)
    if shutil.which("wrk") is None:
        print("== serve_http needs wrk, which is not installed: apt-get install wrk", flush=True)
        found.remove("serve_http")
    return found


def _run(name: str, flags: list[str]) -> tuple[int, list[str]]:
    """Run one, its output shown as it comes; return its exit code and what its ratios were."""
    print(f"== {name}", flush=True)
    words = [sys.executable, "-m", f"tests.benchmarks.{name}", *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ratios = []
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("ratio"):
                ratios.append(line.removeprefix("ratio").strip())
    return process.returncode, ratios


if __name__ == "__main__":
    run(main)

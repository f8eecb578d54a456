"""`python -m tests.mutants [-k NAME] [--check]`: put one bug at a time in a copy; see who notices.

Each mutant of this folder's TOML files is applied to a copy of the checkout, and the tests that it
names run there. All of them have to pass without it, and one has to fail with it. Exit code 1 if a
mutant survives or cannot be tried.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.mutant import Mutant, problems, read
from tests.mutants.trial import Trial, attempt, copied, pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]


def main(arguments: Sequence[str], folder: Path = HERE, checkout: Path = CHECKOUT) -> int:
    """Try the mutants of a folder on a checkout; 0 if every one is caught."""
    given = _parsed(arguments)
    mutants = [mutant for mutant in read(folder) if given.k in mutant.name]
    wrong = [problem for mutant in mutants for problem in problems(mutant, checkout)]
    print("\n".join([*wrong, f"{len(mutants)} mutants, {len(wrong)} problems"]), flush=True)
    if wrong or not mutants:
        return 1
    return 0 if given.check else asyncio.run(_try(mutants, checkout, given.n))


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("-k", default="", metavar="NAME", help="only mutants with this in the name")
    parser.add_argument("-n", type=int, default=2, help="how many at a time")
    parser.add_argument("--check", action="store_true", help="only look whether each still applies")
    return parser.parse_args(arguments)


async def _try(mutants: Sequence[Mutant], checkout: Path, at_once: int) -> int:
    """Try mutants, after their tests without any; print each, then those that were not caught."""
    started = time.monotonic()
    # What is edited in the checkout meanwhile has no part in it.
    with copied(checkout) as copy:
        if not await _passes(sorted({test for m in mutants for test in m.tests}), copy, at_once):
            return 1
        trials = await _trials(mutants, copy, at_once)
    for name, trial in trials.items():
        if trial.verdict != "caught":
            print(f"\n== {name}: {trial.verdict}\n{trial.detail}")
    counts = Counter(trial.verdict for trial in trials.values())
    total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{len(trials)} mutants: {total}; {(time.monotonic() - started) / 60:.1f} minutes")
    return int(set(counts) != {"caught"})


async def _passes(tests: Sequence[str], checkout: Path, at_once: int) -> bool:
    """Whether the tests pass without a bug: only then does a failure mean anything."""
    print(f"without a bug: {len(tests)} tests and files of tests ...", flush=True)
    code, output = await pytest(checkout, ["-n", str(at_once), "--dist", "loadfile", *tests])
    print("\n".join(output.splitlines()[-20 if code else -1 :]), flush=True)
    return code == 0


async def _trials(mutants: Sequence[Mutant], checkout: Path, at_once: int) -> dict[str, Trial]:
    """Return how each mutant fared, by name; each is printed as it ends."""
    trials: dict[str, Trial] = {}
    free = asyncio.Semaphore(at_once)

    async def run(mutant: Mutant) -> None:
        async with free:
            began = time.monotonic()
            trial = trials[mutant.name] = await attempt(mutant, checkout)
            took = f"[{len(trials)}/{len(mutants)}] {time.monotonic() - began:4.0f} s"
            detail = trial.detail if trial.verdict == "caught" else mutant.bug
            print(f"{took}  {trial.verdict:8} {mutant.name}: {detail}", flush=True)

    async with asyncio.TaskGroup() as group:
        for mutant in mutants:
            group.create_task(run(mutant))
    return trials


if __name__ == "__main__":
    # A shell has what it starts in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

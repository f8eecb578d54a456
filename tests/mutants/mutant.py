"""Mutants: the product with one bug put into it, each a table of a TOML file in this folder."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEYS = {"bug", "file", "old", "new", "tests"}


@dataclass(frozen=True)
class Mutant:
    """One edit that makes the product wrong.

    Attributes:
        name: of its table.
        bug: what is wrong then, in a sentence.
        file: the one that is edited, relative to the checkout.
        old: text that is in the file exactly once.
        new: what stands there instead.
        tests: ids of pytest; one of them has to fail.
    """

    name: str
    bug: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read(folder: Path) -> list[Mutant]:
    """Return all mutants of a folder's TOML files, in the files' order.

    Raises:
        ValueError: a table lacks a key, has a foreign one, or is there twice.
    """
    mutants: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if set(table) != KEYS or name in mutants:
                raise ValueError(
                    f"{path.name}: [{name}] needs the keys {', '.join(sorted(KEYS))} and a name of "
                    f"its own, got {', '.join(sorted(table))}"
                )
            mutants[name] = Mutant(name, **{**table, "tests": tuple(table["tests"])})
    return list(mutants.values())


def mutated(mutant: Mutant, checkout: Path) -> str:
    """Return the text of a mutant's file with its bug.

    Raises:
        ValueError: the old text is not in the file exactly once, or is not changed.
    """
    path = checkout / mutant.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        raise ValueError(
            f"{mutant.name} does not apply: {mutant.file} has its old text "
            f"{text.count(mutant.old)} times, and has to have it once"
        )
    return text.replace(mutant.old, mutant.new)


def problems(mutant: Mutant, checkout: Path) -> Iterator[str]:
    """Yield why a mutant cannot be tried on a checkout, each with what may help."""
    try:
        mutated(mutant, checkout)
    except ValueError as error:
        yield "\n".join([str(error), *_hints(mutant, checkout)])
    for test in mutant.tests:
        path, _, name = test.partition("::")
        source = checkout / path
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        if f"def {name.partition('[')[0]}" not in text:
            yield f"{mutant.name} names a test that is not there: {test}"


def _hints(mutant: Mutant, checkout: Path) -> Iterator[str]:
    """Yield other files with the old text, and lines of its file that are like its first line."""
    for package in sorted({Path(mutant.file).parts[0], "train", "serve"}):
        for path in sorted((checkout / package).rglob("*.py")):
            if mutant.old in path.read_text(encoding="utf-8"):
                yield f"    it is in {path.relative_to(checkout)}"
    path = checkout / mutant.file
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    wanted = max(mutant.old.splitlines(), key=len)
    for line in difflib.get_close_matches(wanted, lines, n=2, cutoff=0.5):
        yield f"    {mutant.file}:{lines.index(line) + 1}: {line.strip()}"

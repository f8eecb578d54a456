"""What a run reads, said before anything is trained."""

from collections.abc import Iterator, Mapping
from typing import Any

from train.adapt import adapted
from train.config import Run
from train.data.encoded import encode
from train.data.profile import profile, profile_lines
from train.data.splits.window import sentence


def inspect(run: Run) -> dict[str, Any]:
    """Return what the tables of a run hold, and what its split makes of them, as plain values.

    Raises:
        ValueError: a table cannot be read as it is declared.
    """
    data = encode(run.data.load())
    return {"name": getattr(run.data, "name", "data"), **profile(data), "test": _test(run, data)}


def _test(run: Run, data: Any) -> dict[str, Any]:
    try:
        run = adapted(run, data)
        folds = run.split.folds(data.interactions, len(data.users), len(data.items), run.seen)
    except ValueError as error:
        return {"refused": str(error)}
    return {"split": run.table()["split"], "window": folds.window.record()}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `inspect` found as lines of text."""
    yield f"data: {found['name']}"
    yield from profile_lines(found)
    test = found["test"]
    if "refused" in test:
        yield f"split: refused: {test['refused']}"
        return
    window = test["window"]
    yield f"split: {test['split']['name']}; {sentence(window)}"
    yield f"{window['cold_users']:,} of the {window['users']:,} users of the test window are new"

"""The end of a sweep: tables, the winner's bundle if asked for, the page and MLflow."""

import dataclasses
import logging

from cluster import storage
from train.bundle.bundle import check
from train.config import Run
from train.fit import fit
from tune.config import Sweep
from tune.outcome import BEST, NOT_TESTED, Outcome, outcome, tested
from tune.report.page import write_page
from tune.report.text import render
from tune.search import Found, place

logger = logging.getLogger(__name__)


def finish(sweep: Sweep, run: Run, found: Found, address: str | None, *, refit: bool) -> Outcome:
    """Write and print what a sweep came to.

    Args:
        sweep: what was varied.
        run: the run as it is.
        found: by `tune.search.search`.
        address: of a Ray head, for the refit.
        refit: fit the winner on everything and write its bundle.

    Raises:
        ValueError: all trials failed.
    """
    ended = outcome(sweep, run, found)
    bundle = fit(ended.run, address) if refit else None
    test = tested(check(bundle)[1]["metrics"]) if bundle else NOT_TESTED
    ended = dataclasses.replace(ended, lines=[*ended.lines, test])
    print(render(found.records, sweep.directions()))
    print("\n".join(ended.lines))
    # Last: whatever plots fail at, the rest is there.
    logger.info("report: %s", page(sweep, run, found, ended))
    print(bundle or f"python -m train fit {storage.join(place(sweep, run), BEST)}")
    return ended


def page(sweep: Sweep, run: Run, found: Found, ended: Outcome) -> str:
    """Write the report page of a sweep; return its place."""
    facts = sweep.model_dump(mode="json", serialize_as_any=True)
    facts["metrics"] = sweep.directions()
    said = {"best": ended.best, "lines": ended.lines}
    return write_page(place(sweep, run), facts, found.records, said)

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
from tune.search import SearchResult, sweep_folder

logger = logging.getLogger(__name__)


def finish(
    sweep: Sweep, run: Run, result: SearchResult, address: str | None, *, refit: bool
) -> Outcome:
    """Write and print the outcome of a sweep.

    Args:
        sweep: the settings of the sweep.
        run: the base run.
        result: of `tune.search.search`.
        address: of a Ray head, for the refit.
        refit: fit the winner on everything and write its bundle.

    Raises:
        ValueError: all trials failed.
    """
    ended = outcome(sweep, run, result)
    bundle = fit(ended.run, address) if refit else None
    test = tested(check(bundle)[1]["metrics"]) if bundle else NOT_TESTED
    ended = dataclasses.replace(ended, lines=[*ended.lines, test])
    print(render(result.records, sweep.directions()))
    print("\n".join(ended.lines))
    # Last, so that an error in a plot loses nothing else.
    logger.info("report: %s", page(sweep, run, result, ended))
    print(bundle or f"python -m train fit {storage.join(sweep_folder(sweep, run), BEST)}")
    return ended


def page(sweep: Sweep, run: Run, result: SearchResult, ended: Outcome) -> str:
    """Write the report page of a sweep; return its place."""
    facts = sweep.model_dump(mode="json", serialize_as_any=True)
    facts["metrics"] = sweep.directions()
    sentences = {"best": ended.best, "lines": ended.lines}
    return write_page(sweep_folder(sweep, run), facts, result.records, sentences)

"""A run adapted to its data: where interactions have no times, what needs them is left out.

What somebody asked for by name is never left out in silence, but refused.
"""

import logging
from collections.abc import Iterator
from typing import Any

from train.baselines.base import Baseline
from train.config import Run
from train.data.encoded import Encoded
from train.data.profile import profile
from train.data.splits.auto import AutoSplit
from train.data.splits.times import LastDays, Time

logger = logging.getLogger(__name__)
ADVICE = "name the column that has them in data.timestamp, or take this out"


def adapted(run: Run, data: Encoded) -> Run:
    """Return the run with a split that suits, and without default baselines that need times.

    Sources that are not named are left out where they are fitted; see `train.sources.fitting`.

    Raises:
        ValueError: the interactions have no times, and something that was asked for needs them.
    """
    if isinstance(run.split, AutoSplit):
        run = run.model_copy(update={"split": run.split.suiting(data.interactions)})
    if getattr(run.data, "events", None):
        training = run.train.model_copy(update={"weighted": True})
        run = run.model_copy(update={"train": training})
    if data.interactions.timed:
        return run
    unmet = list(_unmet(run))
    if unmet:
        raise ValueError(
            f"all interactions have one time, or none, and {'; '.join(unmet)} need"
            f"{'' if len(unmet) > 1 else 's'} times: {ADVICE}"
        )
    kept = tuple(entry for entry in run.evaluation.baselines if not entry.needs_times)
    evaluation = run.evaluation.model_copy(update={"baselines": kept})
    return run.model_copy(update={"evaluation": evaluation})


def check_asked(run: Run) -> None:
    """Check that users whose history alone is known can be answered, and compared.

    Raises:
        ValueError: something would know nothing of them.
    """
    if run.seen != "exclude":
        raise ValueError(
            f'split.users holds out items that their users never had: expected seen = "exclude", '
            f"got {run.seen!r}"
        )
    if not run.tower.history:
        raise ValueError(
            "split.users tests users that towers are not trained on: expected a tower.history of 1 "
            "or more, got 0"
        )
    lost = [entry.name for entry in run.evaluation.baselines if not _folds_in(entry)]
    if lost:
        raise ValueError(
            "split.users tests users that baselines are not fitted to, and "
            f"{', '.join(lost)} cannot fold in a history: take it out of evaluation.baselines"
        )


def _folds_in(baseline: Baseline) -> bool:
    return bool(getattr(baseline, "folds_in", True))


def left_out(run: Run) -> list[str]:
    """Return what a run without times goes without, in words."""
    sources = [entry.name for entry in run.sources if entry.needs_times]
    baselines = [entry.name for entry in run.evaluation.baselines if entry.needs_times]
    return [*sorted({*sources, *baselines}), "features of recency"]


def _unmet(run: Run) -> Iterator[str]:
    """Yield what was asked for and needs times."""
    if isinstance(run.split, Time | LastDays):
        yield f"the split {run.split.name}"
    if run.evaluation.folds > 1:
        yield f"evaluation.folds = {run.evaluation.folds}"
    if run.train.half_life is not None:
        yield f"train.half_life = {run.train.half_life:g}"
    if run.train.context == "before":
        yield 'train.context = "before"'
    if run.tower.reads_order:
        yield f"tower {run.table()['tower']['name']}, which reads histories in their order,"
    if run.seen == "only":
        yield 'seen = "only", which recommends what is taken up once more,'
    yield from (f"the source {entry.name}" for entry in _named(run.sources, run.names_sources()))
    baselines = run.evaluation.baselines
    yield from (f"the baseline {entry.name}" for entry in _named(baselines, run.names_baselines()))


def _named(entries: Any, named: bool) -> list[Any]:
    """Return entries that need times and were asked for, by their name or by a half-life."""
    return [
        entry
        for entry in entries
        if (named and entry.needs_times) or getattr(entry, "half_life", None) is not None
    ]


def tell_of_times(asked: Run, run: Run, data: Encoded) -> None:
    """Log what is left out where there are no times, and whose last items tie.

    Args:
        asked: the run as it was given.
        run: the same, adapted to the data.
        data: with its interactions.
    """
    if not data.interactions.timed:
        logger.warning(
            "interactions have no times: the split is %s, without %s",
            *(run.table()["split"]["name"], ", ".join(left_out(asked))),
        )
    if data.tied_users:
        order = "a hash of user and item" if run.data.ties == "hash" else "the rows of the table"
        logger.info(
            "%s of %s users have several items at their last time, which %s puts in order",
            *(f"{data.tied_users:,}", f"{len(data.users):,}", order),
        )


def described(data: Encoded) -> dict[str, Any]:
    """Return what the manifest says of the data beside its fingerprint."""
    return {
        "users": len(data.users),
        "items": len(data.items),
        "timed": data.interactions.timed,
        "tied_users": data.tied_users,
        "profile": profile(data),
    }

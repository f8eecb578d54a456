"""Settings of baselines and sources that nobody set, picked once on the validation window."""

from collections.abc import Mapping
from typing import Any

from train.baselines import BASELINES
from train.baselines.base import Baseline
from train.config import Run
from train.core.settings import Settings
from train.data.snapshot import Holdout
from train.sources.fitting import suitable


def pick(run: Run, holdout: Holdout) -> Run:
    """Return the run with these settings picked, and without sources that the data do not suit.

    A baseline and a source of the same name and settings are tuned once.

    Args:
        run: with the baselines and the sources.
        holdout: the validation users, and what was known before.

    Raises:
        ValueError: a source that the run names cannot be fitted to the data.
    """
    sources = suitable(run.sources, holdout.known, run.names_sources())
    options = run.evaluation.recent_days, run.evaluation.k, run.seed
    done: dict[str, Baseline] = {}

    def tuned(entry: Any) -> Any:
        if entry.name not in BASELINES:
            return entry.tuned(holdout, *options)
        baseline = BASELINES[entry.name]
        plain = baseline(**{key: getattr(entry, key) for key in baseline.model_fields})
        key = plain.model_dump_json()
        if key not in done:
            done[key] = plain.tuned(holdout, *options)
        return entry.model_copy(update=dict(done[key]))

    baselines = tuple(tuned(baseline) for baseline in run.evaluation.baselines)
    evaluation = run.evaluation.model_copy(update={"baselines": baselines})
    update = {"evaluation": evaluation, "sources": tuple(tuned(source) for source in sources)}
    return run.model_copy(update=update)


def record(run: Run) -> dict[str, Any]:
    """Return the settings of a picked run's baselines and sources for the manifest."""
    return {"baselines": _tables(run.evaluation.baselines), "sources": _tables(run.sources)}


def recorded(run: Run, manifest: Mapping[str, Any]) -> Run:
    """Return the run with the baselines that a bundle was measured with; see `record`."""
    picks = manifest.get("picks")
    if not picks:  # before format 6 there was nothing to pick
        return run
    table = run.evaluation.model_dump(mode="json") | {"baselines": picks["baselines"]}
    return run.model_copy(update={"evaluation": type(run.evaluation).model_validate(table)})


def _tables(entries: tuple[Settings, ...]) -> list[dict[str, Any]]:
    return [entry.model_dump(mode="json") for entry in entries]

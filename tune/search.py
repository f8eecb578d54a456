"""The driver of a sweep: data prepared once, trials on Ray Tune, the best run written down."""

import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import ray.tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from cluster import storage
from cluster.session import connect, scaling
from train.config import Run
from train.fit import prepare, tower_job
from train.loop import Job
from train.snapshot import snapshot, validation_window
from train.splits import TRAIN
from tune.config import Sweep
from tune.report import Record, ranked, record, settings, toml
from tune.spaces import Space, check, override, suggest
from tune.trial import trial

logger = logging.getLogger(__name__)

BEST = "best.toml"


def search(sweep: Sweep, run: Run, address: str | None = None) -> list[Record]:
    """Run all trials of a sweep; write `trials.json` and, of the best one, `BEST`.

    Nothing is started before the data is checked.

    Args:
        sweep: what to vary.
        run: what is varied, `sweep.base()`.
        address: of a Ray head; see `cluster.session.connect`.

    Raises:
        ValueError: a sweep of this name exists, or no trial came to an end.
    """
    home = place(sweep)
    if storage.names(home):
        raise ValueError(f"{home} exists; choose another --name, or delete that folder")
    job = shared_job(run)
    _quiet()
    connect(address)
    storage.write_bytes(storage.join(home, "sweep.json"), _json(sweep.model_dump(mode="json")))
    grid = _tuner(sweep, run, job, home).fit()
    results = [grid[number] for number in range(len(grid))]
    records = [record(run, r.config or {}, r.metrics, r.error, sweep.metric) for r in results]
    storage.write_bytes(storage.join(home, "trials.json"), _json(records))
    storage.write_bytes(storage.join(home, BEST), best(sweep, run, records).encode())
    return records


def place(sweep: Sweep) -> str:
    """Return the folder or URI of a sweep's files."""
    return storage.join(storage.absolute(sweep.storage), sweep.name)


def shared_job(run: Run) -> Job:
    """Return what trains the run's towers up to t1 and validates them on `[t1, t2)`; no test."""
    data, folds = prepare(run)
    before = snapshot(data, folds.fold == TRAIN, folds.t1, run.evaluation.recent_days)
    return tower_job(run, before, validation_window(data, folds, before))


def best(sweep: Sweep, run: Run, records: list[Record]) -> str:
    """Return the run of the best trial as TOML, under the name of the sweep.

    Raises:
        ValueError: all trials failed.
    """
    order = ranked(records)
    if not order:
        raise ValueError(f"all {len(records)} trials failed; the first: {records[0]['reason']}")
    found = override(run, records[order[0]]["overrides"] | {"name": f"{sweep.name}-best"})
    return toml(found.table())


def _quiet() -> None:
    # The same as our lines, at greater length; a failed trial's traceback is in its folder.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _tuner(sweep: Sweep, run: Run, job: Job, home: str) -> ray.tune.Tuner:
    space = sweep.ranges()
    function = ray.tune.with_parameters(trial, run=run, job=job, metric=sweep.metric)
    gpus = scaling(1, run.train.gpu).num_gpus_per_worker
    return ray.tune.Tuner(
        ray.tune.with_resources(function, {"cpu": 1, "gpu": gpus}),
        tune_config=ray.tune.TuneConfig(
            metric=sweep.metric,
            mode="max",
            num_samples=sweep.trials,
            max_concurrent_trials=sweep.trials_at_once,
            search_alg=OptunaSearch(
                partial(_draw, space), metric=sweep.metric, mode="max", seed=sweep.seed
            ),
            scheduler=_scheduler(sweep, space, run),
            reuse_actors=True,
            trial_dirname_creator=_folder,
        ),
        run_config=ray.tune.RunConfig(
            name="trials",
            storage_path=home,
            callbacks=[Progress(sweep, run)],
            verbose=0,
        ),
    )


def _folder(started: Any) -> str:
    return str(started.trial_id)


def _draw(space: Space, suggester: Any) -> dict[str, Any]:
    # What Optuna was asked for, by its own names, is beside it in a trial's config.
    return {"overrides": suggest(space, suggester)}


def _scheduler(sweep: Sweep, space: Space, run: Run) -> ASHAScheduler:
    epochs = max(varied.train.epochs for varied in check(space, run))
    return ASHAScheduler(max_t=epochs, grace_period=min(sweep.grace_epochs, epochs))


class Progress(ray.tune.Callback):
    """Logs a line a trial."""

    def __init__(self, sweep: Sweep, run: Run) -> None:
        self.sweep = sweep
        self.run = run
        self.records: list[Record] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Log how a trial ended."""
        self._ended(trials, trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Log why a trial's process ended."""
        self._ended(trials, trial, Path(trial.error_file).read_text())

    def _ended(self, trials: list[Any], trial: Any, error: str | None) -> None:
        row = record(self.run, trial.config, trial.last_result, error, self.sweep.metric)
        self.records.append(row)
        number, done = trials.index(trial) + 1, f"{len(self.records)} of {self.sweep.trials} done"
        said = settings(row["overrides"])
        logger.info("trial %d, %s: %s, %s", number, done, self._outcome(row), said)

    def _outcome(self, row: Record) -> str:
        if row["value"] is None:
            return f"failed ({row['reason']})"
        name = self.sweep.metric
        top = self.records[ranked(self.records)[0]]["value"]
        return f"{name} {row['value']:.4f} after {row['epochs']} epochs (best {top:.4f})"


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()

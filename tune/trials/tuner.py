"""Ray Tune's part of a sweep: the tuner of a new one, or of one that goes on."""

import json
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import optuna
import ray.tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from cluster import storage
from cluster.session import scaling
from train.config import Run
from train.trainer.schedule import MOST_EPOCHS
from tune.config import Sweep
from tune.space.draws import corners, override, suggest
from tune.space.points import Point, finished_trial, point
from tune.space.ranges import Space
from tune.trials.optuna_search import Search, Trials, sampler
from tune.trials.progress import Progress
from tune.trials.trial import RUNG, TrialPlan, trial

TRIALS = "trials-"
# What a sweep is: its settings, its run, the fingerprint of its data.
SWEEP = "sweep.json"
# ASHA's eta: the best third goes on at each rung. The usual 4 leaves few epochs few rungs.
REDUCTION = 3
# A kill may lose this much of the search's state; Tune's own choice is 10 seconds or more, and much
# less than this has its copying of one snapshot meet the writing of the next.
SNAPSHOT_SECONDS = "1"


def quiet() -> None:
    """Silence the logs and tables of Tune and Optuna, which the sweep's own replace.

    A failed trial's traceback is in its folder.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", SNAPSHOT_SECONDS)
    for name in ("execution.tune_controller", "execution.experiment_state", "tune"):
        logging.getLogger(f"ray.tune.{name}").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def resources(sweep: Sweep, run: Run) -> dict[str, float]:
    """Return the CPUs and GPUs that Ray reserves for a trial, as `cpu` and `gpu`."""
    gpus = sweep.gpus
    if gpus is None:
        gpus = scaling(1, run.train.gpu).num_gpus_per_worker
    return {"cpu": sweep.cpus, "gpu": gpus}


def trials_in(home: str) -> str:
    """Return the folder or URI of a sweep's trials, the one that is there or a new one.

    Tune gathers what it writes in a folder of the machine, named like this one and by the second:
    sweeps that begin at once would write into each other's, were the name not one of a kind.
    """
    there = [name for name in storage.names(home) if name.startswith(TRIALS)]
    return storage.join(home, there[0] if there else f"{TRIALS}{uuid.uuid4().hex[:8]}")


def trainable(sweep: Sweep, run: Run, shared: Any, folder: str) -> Any:
    """Return Tune's trainable: `trial` with its plan and shared data in the object store.

    Args:
        sweep: the settings of the sweep.
        run: the base run.
        shared: data that the subject prepared for all trials.
        folder: see `trials_in`.
    """
    plan = TrialPlan(
        subject=sweep.subject.name,
        run=run,
        metrics=sweep.directions(),
        seeds=sweep.seeds,
        threads=max(1, int(sweep.cpus)),
        folder=folder,
    )
    function = ray.tune.with_parameters(trial, plan=plan, shared=shared)
    return ray.tune.with_resources(function, resources(sweep, run))


def new(
    sweep: Sweep,
    run: Run,
    trainable: Any,
    folder: str,
    earlier: Sequence[tuple[Point, list[float]]],
) -> ray.tune.Tuner:
    """Return the tuner of a new sweep.

    Args:
        sweep: the settings of the sweep.
        run: the base run.
        trainable: see the function of that name.
        folder: see `trials_in`.
        earlier: points of an earlier sweep with their values, which warm-start the search.

    Raises:
        ValueError: `sweep.optuna` has a study of this name.
    """
    space = sweep.ranges()
    home, name = folder.rsplit("/", 1)
    searcher = Search(
        partial(_draw, space),
        sweep.directions(),
        sampler(sweep.search, sweep.seed),
        as_it_is=_as_it_is(space, run),
        start=sweep.points(run),
        storage=_study_storage(sweep, home),
        study_name=sweep.name,
    )
    searcher.add_finished(earlier, space)
    config = ray.tune.TuneConfig(
        num_samples=sweep.trials or -1,
        time_budget_s=None if sweep.hours is None else sweep.hours * 3600,
        search_alg=Trials(searcher, partial(asked, home), sweep.trials_at_once),
        scheduler=_scheduler(sweep, run),
        reuse_actors=True,
        trial_dirname_creator=_dirname,
    )
    return ray.tune.Tuner(
        trainable,
        tune_config=config,
        run_config=ray.tune.RunConfig(
            name=name,
            storage_path=home,
            callbacks=[Progress(sweep.name, sweep.directions(), sweep.trials, sweep.hours)],
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=1),
            # A trial reports its own exceptions; this is for a lost process or node.
            failure_config=ray.tune.FailureConfig(max_failures=run.train.max_failures),
            verbose=0,
        ),
    )


def asked(home: str) -> int | None:
    """Return the number of trials that the newest command asked for; None is no limit."""
    identity = json.loads(storage.read_bytes(storage.join(home, SWEEP)))
    number: int | None = identity["sweep"]["trials"]
    return number


def resumed(trainable: Any, folder: str) -> ray.tune.Tuner:
    """Return the tuner of an interrupted sweep: finished trials are kept, the others go on.

    Raises:
        ValueError: it was interrupted before its first trial.
    """
    if not ray.tune.Tuner.can_restore(folder):
        home = folder.rsplit("/", 1)[0]
        raise ValueError(f"{home} has no trials to go on with; delete that folder and begin anew")
    return ray.tune.Tuner.restore(folder, trainable, resume_unfinished=True)


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


def _draw(space: Space, suggester: Any) -> dict[str, Any]:
    # What Optuna was asked for, by its own names, is beside it in a trial's config.
    return {"overrides": suggest(space, suggester)}


def _as_it_is(space: Space, run: Run) -> Callable[[Sequence[float]], Any]:
    """Return a function from the base run's values to its finished trial of the study.

    It returns None where no draw of the space gives the base run.
    """
    params = point(space, run, run)
    return _no_trial if params is None else partial(finished_trial, space, params)


def _no_trial(_values: Sequence[float]) -> None:
    return None


def _study_storage(sweep: Sweep, home: str) -> optuna.storages.BaseStorage | None:
    if sweep.optuna is None and storage.is_uri(home):
        return None
    url = sweep.optuna or f"sqlite:///{storage.join(home, 'optuna.db')}"
    database = optuna.storages.RDBStorage(url)
    if sweep.name in optuna.study.get_all_study_names(database):
        raise ValueError(f"{url} has a study {sweep.name!r}; choose another --name")
    return database


def _scheduler(sweep: Sweep, run: Run) -> Any:
    if sweep.scheduler == "none" or sweep.subject.name != "towers":
        return FIFOScheduler()
    varied = [override(run, corner) for corner in corners(sweep.ranges())]
    epochs = max(each.train.epochs or MOST_EPOCHS for each in [run, *varied])
    name, mode = next(iter(sweep.directions().items()))
    # A trial is never stopped for having had all of its epochs: further seeds may follow. What
    # reports no epochs is never compared.
    return ASHAScheduler(
        time_attr=RUNG,
        metric=name,
        mode=mode,
        max_t=epochs + 1,
        grace_period=min(sweep.grace_epochs, epochs),
        reduction_factor=REDUCTION,
    )

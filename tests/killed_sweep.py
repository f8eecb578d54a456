"""A sweep that is killed in the middle of a trial: `python -m tests.killed_sweep TRIAL SWEEP ...`.

The rest of the words are those of `python -m tune`.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.tune

from cluster.cli import run
from tune.__main__ import main
from tune.trials import tuner
from tune.trials.progress import Progress
from tune.trials.trial import TrialPlan, trial


def ending(number: int, signum: int) -> Callable[..., None]:
    """Return a callback of Tune that sends this process a signal after two epochs of a trial."""

    def on_trial_result(
        self: Any, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        if (trial.config["trial"], result["epoch"]) == (number, 2):
            os.kill(os.getpid(), signum)

    return on_trial_result


def once_known(measure: Callable[..., None]) -> Callable[..., None]:
    """Return trials that begin once Tune has written down that they exist, for a kill to find."""

    @functools.wraps(measure)
    def known(config: Any, *, plan: TrialPlan, shared: Any) -> None:
        name = ray.tune.get_context().get_trial_id()
        states = functools.partial(Path(plan.folder).glob, "experiment_state-*.json")
        while not any(name in state.read_text() for state in states()):
            time.sleep(0.1)
        measure(config, plan=plan, shared=shared)

    return known


if __name__ == "__main__":
    tuner.trial = once_known(trial)  # type: ignore[attr-defined]
    Progress.on_trial_result = ending(int(sys.argv[1]), signal.SIGKILL)  # type: ignore[method-assign]
    run(main, sys.argv[2:])

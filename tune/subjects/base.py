"""What a subject of a sweep is: the part of a run that it varies, and how a trial measures that."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded
from train.data.splits.base import Folds
from train.trainer.checkpoint import State
from train.trainer.job import Worker

Values = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """The part of a run that a sweep varies.

    Attributes:
        name: its key in `SUBJECTS`.
        keys: tables of a run that a space may have keys of.
        fixed: keys within them that change no metric of a trial.
        metrics: that a trial can report; "max" where more is better.
        default: metrics that trials are compared by, unless a sweep names others.
        prepare: computes the data shared by all trials from a run, its data and a folder for
            checkpoints.
        measure: measures a run; see `Measure`.
        users: computes the NDCG@10 of each validation user, `[V]`, of a run from the values that
            its trial kept; None where it has no users.
    """

    name: str
    keys: tuple[str, ...]
    fixed: tuple[str, ...]
    metrics: Mapping[str, Literal["max", "min"]]
    default: tuple[str, ...]
    prepare: Callable[[Run, Encoded, Folds, str], Any]
    measure: "Measure"
    users: Callable[[Any, Run, Any], Array] | None = None


Measure = Callable[[Any, Run, Collection[str], Worker, State | None], tuple[Values, Any]]
"""From the shared data, a run, the requested metrics, the worker that computes and reports each
epoch, and the state of an interrupted trial: the values of the metrics, and values to keep."""


def milliseconds(call: Callable[[Any], object], requests: Iterable[Any]) -> float:
    """Return the median milliseconds that a call takes over requests."""
    seconds = []
    for request in requests:
        begun = time.perf_counter()
        call(request)
        seconds.append(time.perf_counter() - begun)
    return round(1e3 * float(np.median(seconds)), 3)


def without_baselines(run: Run) -> Run:
    """Return the run without the systems that it is compared with: no trial measures them."""
    evaluation = run.evaluation.model_copy(update={"baselines": ()})
    return run.model_copy(update={"evaluation": evaluation})

"""One trial: the towers of a run with some keys replaced, trained in the trial's own process."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ray
import ray.tune
import torch

from train.config import Run
from train.loop import Job, World, train
from tune.spaces import override


def trial(config: Mapping[str, Any], *, run: Run, job: Job, metric: str) -> None:
    """Train the towers of one trial and report each epoch: its number and the best metric so far.

    What goes wrong in training (a loss that is no longer finite, no memory left) is reported as
    `failed` with the worst value, so that the search learns to avoid the place.

    Args:
        config: `overrides` by key of the run.
        run: what is varied.
        job: what trains its towers, with the data of all trials.
        metric: what of an epoch the search looks at; more is better.
    """
    torch.set_num_threads(1)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    last: dict[str, Any] = {"epoch": 0, "best_epoch": 0}

    def report(row: Mapping[str, Any], state: Mapping[str, Any] | None) -> None:
        assert state is not None, "a trial is its own rank 0"
        # A run keeps the weights of its best epoch, so that is what counts.
        last.update(epoch=row["epoch"], best_epoch=state["best"]["epoch"])
        last[metric] = state["best"][metric]
        ray.tune.report(dict(last))

    try:
        train(varied(job, override(run, config["overrides"])), World(device=device, report=report))
    except (ValueError, RuntimeError, MemoryError) as error:
        ray.tune.report({**last, metric: 0.0, "failed": str(error) or type(error).__name__})


def varied(job: Job, run: Run) -> Job:
    """Return the job with the towers, the loss and the training of a run, for one process.

    A run with several workers takes as many batches in each step; here they are one batch.
    """
    batch = run.train.batch_size * max(1, run.train.workers)
    training = run.train.model_copy(update={"batch_size": batch})
    return dataclasses.replace(job, tower=run.tower, loss=run.loss, training=training)

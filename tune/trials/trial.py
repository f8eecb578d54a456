"""One trial: a run with some keys replaced, measured in the trial's own process."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import ray
import ray.tune
import torch

from cluster import storage
from train.config import Run
from train.trainer.checkpoint import CHECKPOINT, State, checkpoint_bytes, read_checkpoint
from train.trainer.job import Worker
from tune.space.draws import override
from tune.subjects import SUBJECTS

Directions = Mapping[str, Literal["max", "min"]]

# State of a trial, kept in its checkpoints; `state` in it is that of the training under way.
Kept = dict[str, Any]

# What a scheduler takes for the age of a trial.
RUNG = "rung"
# What a trial without a result counts as: no better than any other.
WORST = {"max": 0.0, "min": 1e9}
# What a trial tells of itself before it has measured anything.
NOTHING: Mapping[str, Any] = {"epoch": 0, "best_epoch": 0, "curve": [], "seconds": 0.0}


def trial(
    config: Mapping[str, Any],
    *,
    subject: str,
    run: Run,
    shared: Any,
    metrics: Directions,
    seeds: int,
    threads: int,
    place: str,
) -> None:
    """Measure a trial with each of its seeds; report every epoch of the first, then the means.

    Every report carries a checkpoint, and a trial that begins with one goes on from there; one
    that had ended only says again what it had said. Its curve and seconds go with it, as a kill
    may lose what Tune wrote down of a report, and Tune's own clock begins anew. What goes wrong
    (a loss that is no longer finite, no memory left) is reported as `failed` with the worst
    values, so that the search learns to avoid the place.

    Args:
        config: its number as `trial`, and its `overrides` by key of the run.
        subject: a key of `SUBJECTS`.
        run: what is varied.
        shared: what the subject prepared for all trials.
        metrics: that the search looks at, and which way they are better.
        seeds: how many.
        threads: of torch.
        place: folder or URI of the trials, each in a folder by its Tune id.
    """
    torch.set_num_threads(threads)
    folder = storage.join(place, ray.tune.get_context().get_trial_id())
    kept = newest(folder) or {"seeds": [], "row": {}, "state": None}
    kept["row"] = {**NOTHING, **kept["row"]}
    if kept["row"].get("ended"):
        _say(kept)
        return
    kept["compared"] = bool(config["overrides"])
    kept["begun"] = time.monotonic() - kept["row"]["seconds"]
    try:
        varied = override(run, config["overrides"])
        while len(kept["seeds"]) < seeds:
            _one_seed(kept, subject, varied, shared, metrics)
        _report(kept, _means(kept["seeds"]) | {"ended": True, RUNG: 0})
    except (ValueError, RuntimeError, MemoryError) as error:
        worst = {name: WORST[direction] for name, direction in metrics.items()}
        reason = str(error) or type(error).__name__
        ray.tune.report({**kept["row"], **worst, "failed": reason, "ended": True, RUNG: 0})


def _one_seed(kept: Kept, subject: str, run: Run, shared: Any, metrics: Directions) -> None:
    """Measure with the next seed, and keep what came out."""
    number = len(kept["seeds"])

    def report(row: dict[str, Any], state: State | None) -> None:
        kept["state"] = state
        # Trials are compared epoch by epoch, so by the first seed, which all of them have. The run
        # as it is, which the winner is to beat, is never stopped early.
        if not number:
            curve = [*kept["row"]["curve"], row[next(iter(metrics))]]
            rung = row["epoch"] if kept["compared"] else 0
            _report(kept, row | {"curve": curve, RUNG: rung})

    worker = Worker(device=torch.device("cuda" if ray.get_gpu_ids() else "cpu"), report=report)
    one = run.model_copy(update={"seed": run.seed + number})
    values, rest = SUBJECTS[subject].measure(shared, one, metrics, worker, kept["state"])
    kept.update(seeds=[*kept["seeds"], {"values": values, "kept": rest}], state=None)


def _means(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = seeds[0]["values"]
    return {name: sum(one["values"][name] for one in seeds) / len(seeds) for name in names}


def _report(kept: Kept, row: Mapping[str, Any]) -> None:
    kept["row"] = {**kept["row"], **row, "seconds": time.monotonic() - kept["begun"]}
    _say(kept)


def _say(kept: Kept) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / CHECKPOINT).write_bytes(checkpoint_bytes(kept))
        checkpoint = ray.tune.Checkpoint.from_directory(folder)
        ray.tune.report(dict(kept["row"]), checkpoint=checkpoint)


def newest(folder: str) -> Kept | None:
    """Return what the newest whole checkpoint in a trial's folder holds; None without one.

    After a kill there may be newer ones than Tune knows of, and the last one may be half there.
    """
    found = [name for name in storage.names(folder) if name.startswith("checkpoint_")]
    for name in reversed(found):
        with contextlib.suppress(RuntimeError, EOFError, FileNotFoundError):
            kept: Kept = read_checkpoint(storage.read_bytes(storage.join(folder, name, CHECKPOINT)))
            return kept
    return None


def restored(checkpoint: "ray.tune.Checkpoint | None") -> Kept | None:
    """Return what a checkpoint of Tune holds; None without one."""
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        kept: Kept = read_checkpoint((Path(folder) / CHECKPOINT).read_bytes())
    return kept


def results(kept: Kept | None) -> list[Any]:
    """Return what each seed of a trial kept; of one that was stopped, its best epoch so far."""
    if kept is None:
        return []
    state = kept["state"]
    so_far = [state["best"]["weights"]] if state and not kept["seeds"] else []
    return [one["kept"] for one in kept["seeds"]] or so_far

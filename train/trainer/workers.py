"""Training on Ray Train workers, or in this process: the only module of training with Ray."""

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train.torch.config import _TorchBackend

from cluster import storage
from cluster.cpus import available_cpus
from cluster.interfaces import use_own_interface
from cluster.session import scaling
from cluster.vitals import AGAIN, RayEndedError
from train.trainer.checkpoint import (
    CHECKPOINT,
    PhaseResult,
    State,
    is_of,
    read_state,
    write_state,
)
from train.trainer.job import Job, Worker
from train.trainer.phases import finished, train_phases

logger = logging.getLogger(__name__)

FOLDER = "towers"
# Seconds without a sign of life after which it is said what is waited for.
SILENCE = 15.0

Watch = Callable[[str, dict[str, Any]], None]
"""Called with the phase and the metrics of an epoch."""


def train_on_ray(
    jobs: Mapping[str, Job], place: str, watch: Watch | None = None
) -> dict[str, PhaseResult]:
    """Train jobs one after the other on the same Ray Train workers, which take long to start.

    Args:
        jobs: by phase; see `phases.train_phases`.
        place: folder or URI of the checkpoints; the same place resumes from the last one there.
        watch: called after every epoch, in a thread of its own.

    Returns:
        the result of each phase.

    Raises:
        ValueError: training diverged.
    """
    _announce(jobs)
    done = finished(jobs, place)
    _tell_of(jobs, done)
    if len(done) == len(jobs):
        return done
    with _logged(watch, _workers(jobs)) as epochs, interruptible():
        result = _result(_trainer(jobs, place, epochs))
    if result.return_value:
        raise ValueError(result.return_value)
    return finished(jobs, place)


def _result(trainer: ray.train.torch.TorchTrainer) -> Any:
    """Train, and return Ray's result.

    Raises:
        RayEndedError: Ray's controller of the training has died.
    """
    try:
        return trainer.fit()
    except ray.exceptions.ActorDiedError as error:
        logger.debug("%s", error)
        raise RayEndedError(f"the controller of Ray Train has died. {AGAIN}") from error


def _workers(jobs: Mapping[str, Job]) -> int:
    return next(iter(jobs.values())).training.workers


def _trainer(jobs: Mapping[str, Job], place: str, epochs: Path) -> ray.train.torch.TorchTrainer:
    """Return Ray's trainer of the jobs, whose epochs are appended to a file."""
    training = next(iter(jobs.values())).training
    return ray.train.torch.TorchTrainer(
        _worker,  # type: ignore[arg-type]
        # Put once, and read by all workers of a node from its object store.
        train_loop_config={"jobs": ray.put(dict(jobs)), "place": place},
        torch_config=_TorchConfig(),
        scaling_config=scaling(training.workers, training.gpu, wait=training.wait),
        run_config=ray.train.RunConfig(
            name=FOLDER,
            storage_path=place,
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[_Epochs(epochs)],  # type: ignore[list-item]
        ),
    )


class _TorchConfig(ray.train.torch.TorchConfig):
    """Ray's settings of a process group, with the backend below."""

    @property
    def backend_cls(self) -> type["_Backend"]:
        return _Backend


class _Backend(_TorchBackend):
    """Ray's process group, whose workers talk through the interface of their node's address."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Choose the interface on each worker, then start the process group."""
        worker_group.execute(use_own_interface)
        super().on_start(worker_group, backend_config)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C stop the workers and then be a KeyboardInterrupt, as everywhere else.

    Ray handles it by an exit with code 0, and goes on to do so once training is over.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def train_here(
    jobs: Mapping[str, Job], place: str, watch: Watch | None = None
) -> dict[str, PhaseResult]:
    """Train in this process, without Ray; arguments, result and errors are those on Ray."""
    _announce(jobs)
    folder = storage.join(place, FOLDER)
    training = next(iter(jobs.values())).training
    cuda = training.gpu is not False and torch.cuda.is_available()

    def report(metrics: dict[str, Any], state: State | None) -> None:
        assert state is not None
        write_state(folder, state)
        _log(metrics, watch)

    device = torch.device("cuda" if cuda else "cpu")
    worker = Worker(device=device, report=report, pause=60 * training.checkpoint_minutes)
    state = read_state(folder)
    _tell_of(jobs, finished(jobs, place), state)
    with _threads(training.threads):
        return train_phases(jobs, place, worker, state)


def _announce(jobs: Mapping[str, Job]) -> None:
    sizes = ", ".join(f"{phase} {len(job.interactions):,}" for phase, job in jobs.items())
    logger.info("interactions to learn from: %s", sizes)


def _tell_of(
    jobs: Mapping[str, Job], done: Mapping[str, PhaseResult], state: State | None = None
) -> None:
    """Say what was trained before, phase by phase."""
    for phase, result in done.items():
        kept = result["best"]["epoch"]
        logger.info("%s: trained before, epoch %d of %d is kept", phase, kept, result["epoch"])
    left = {phase: job for phase, job in jobs.items() if phase not in done}
    phase = state["phase"] if state else ""
    if state and phase in left and is_of(state, left[phase].identity):
        epoch, within = state["epoch"], state.get("within")
        place = f"{within['steps']:,} steps of epoch {epoch + 1}" if within else f"epoch {epoch}"
        logger.info("%s: going on after %s", phase, place)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads; 0 for as many as before, but no more than there are CPUs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or min(before, available_cpus()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _worker(config: dict[str, Any]) -> str | None:
    """Run the loop on one Ray Train worker; return the message of a user's mistake, if any."""
    jobs: Mapping[str, Job] = ray.get(config["jobs"])
    context = ray.train.get_context()
    size = context.get_world_size()
    training = next(iter(jobs.values())).training
    threads, pause = training.threads, 60 * training.checkpoint_minutes
    # Workers on other machines have CPUs of their own.
    torch.set_num_threads(threads or max(1, available_cpus() // context.get_local_world_size()))
    rank, device = context.get_world_rank(), ray.train.torch.get_device()
    worker = Worker(rank, size, device, _report, _wrap, pause)
    checkpoint = ray.train.get_checkpoint()
    state = None
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = read_state(folder)
            assert state is not None, f"no {CHECKPOINT} in Ray's checkpoint"
    try:
        train_phases(jobs, config["place"], worker, state)
    except ValueError as error:
        return str(error)
    return None


def _report(metrics: dict[str, Any], state: State | None) -> None:
    if state is None:
        ray.train.report(metrics)
        return
    with TemporaryDirectory() as folder:
        write_state(folder, state)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _wrap(model: torch.nn.Module) -> torch.nn.Module:
    # The buffers are tables that are the same everywhere; sending them at each step is waste.
    wrapped: torch.nn.Module = ray.train.torch.prepare_model(
        model, parallel_strategy_kwargs={"broadcast_buffers": False}
    )
    return wrapped


class _Epochs(ray.train.UserCallback):
    """Appends the metrics of rank 0 to a file.

    Ray calls it in a process of its own, on the driver's machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Append a line."""
        with self.path.open("a") as file:
            file.write(json.dumps(metrics[0]) + "\n")


@contextmanager
def _logged(watch: Watch | None, workers: int) -> Iterator[Path]:
    """Yield a file whose lines, the metrics of an epoch each, are logged as they come."""
    with TemporaryDirectory() as folder:
        path, done = Path(folder) / "epochs", threading.Event()
        path.touch()
        thread = threading.Thread(target=_follow, args=(path, done, watch, workers))
        thread.start()
        try:
            yield path
        finally:
            done.set()
            thread.join()


def _follow(path: Path, done: threading.Event, watch: Watch | None, workers: int) -> None:
    """Log the epochs in a file; where none comes, say what is waited for and what there is."""
    patience = Patience(time.monotonic())
    with path.open() as lines:
        last = False
        while not last:
            last = done.wait(0.2)
            for line in lines:
                patience.heard(time.monotonic())
                _log(json.loads(line), watch)
            if not last and patience.is_over(time.monotonic()):
                logger.info("%s", _waiting(patience.silent(time.monotonic()), workers))


@dataclass
class Patience:
    """How long silence is nothing to speak of: at first some seconds, then what epochs took.

    Attributes:
        since: when something was heard last, seconds.
        longest: time between two epochs so far.
        told: when the silence was spoken of last; None where it was not.
    """

    since: float
    longest: float = 0.0
    told: float | None = None

    def heard(self, now: float) -> None:
        """Begin to wait again."""
        self.longest, self.since, self.told = max(self.longest, now - self.since), now, None

    def silent(self, now: float) -> float:
        """Return for how long nothing was heard, seconds."""
        return now - self.since

    def is_over(self, now: float) -> bool:
        """Whether to speak of the silence, once every `SILENCE` seconds at the most."""
        begun = self.since + 3 * self.longest if self.told is None else self.told
        over = now - begun >= SILENCE
        self.told = now if over else self.told
        return over


def _waiting(seconds: float, workers: int) -> str:
    try:
        every = ray.available_resources(), ray.cluster_resources()
        free, total = (of.get("CPU", 0.0) for of in every)
    except Exception as error:  # Ray raises no class of its own where its head is gone
        return f"no epoch for {seconds:.0f} s, and Ray does not answer: {error}"
    return (
        f"no epoch for {seconds:.0f} s; asked for: {workers} workers with 1 CPU each; free: "
        f"{free:g} of the cluster's {total:g} CPUs"
    )


def _log(metrics: Mapping[str, Any], watch: Watch | None) -> None:
    row = dict(metrics)
    phase = row.pop("phase")
    if "step" in row:
        place = f"{row['step']:,} of {row['steps']:,} steps"
        logger.info("%s: epoch %d, %s, %.0f s", phase, row["epoch"], place, row["seconds"])
        return
    loss = f", loss {row['loss']:.4f}" if "loss" in row else ""
    ndcg = f", validation NDCG@10 {row['ndcg']:.4f}" if "ndcg" in row else ""
    logger.info("%s: epoch %d%s%s, %.1f s", phase, row["epoch"], loss, ndcg, row["seconds"])
    if watch:
        watch(phase, row)

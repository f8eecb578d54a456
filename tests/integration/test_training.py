"""Training on several workers, through Ray: their number, a stop or a kill change no result."""

import itertools
import logging
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
import torch
from torch.multiprocessing.spawn import spawn

from cluster.session import Session
from tests.training import (
    before,
    gloo_worker,
    make_job,
    plain_inputs,
    read_curve,
    suiting,
    validation,
)
from tests.waiting import wait_until
from train.losses import LOSSES
from train.losses.base import LossInputs
from train.losses.pairwise import BPR
from train.losses.softmax import InBatchSoftmax
from train.towers import TOWERS
from train.towers.history_transformer import HistoryTransformer
from train.towers.two_tower import TwoTower
from train.trainer.checkpoint import PhaseResult, State
from train.trainer.job import Job, Worker
from train.trainer.loop import train
from train.trainer.phases import finished
from train.trainer.workers import train_here, train_on_ray

pytestmark = pytest.mark.usefixtures("local_ray")
EPOCHS = 6


def job(**changes: Any) -> Job:
    """Two workers with half a batch each, and validation."""
    values = {"workers": 2, "batch_size": 32, "epochs": EPOCHS, "patience": EPOCHS}
    return make_job(**(values | {"validation": validation()} | changes))


def phases(**changes: Any) -> dict[str, Job]:
    """Towers that validation stops, and then others for as many epochs."""
    return {"select": job(**changes), "refit": job(validation=None, **changes)}


def same_weights(one: PhaseResult | State, other: PhaseResult | State) -> bool:
    weights, others = one["best"]["weights"], other["best"]["weights"]
    return all(torch.equal(weights[name], others[name]) for name in weights)


def numbers(curve: list[dict[str, Any]]) -> list[tuple[float, float]]:
    return [(row["loss"], row.get("ndcg", -1.0)) for row in curve]


def rounding(epoch: int, batch: int = 64) -> float:
    """Return how far losses may be apart after so many epochs by the order of sums alone, relative.

    A gradient is a sum over the examples of a batch, which two workers take in two parts and one
    worker in one: each of its n additions rounds by eps at most, so that it is off by n eps (Higham
    2002, section 4.2). Each step may add as much to what the ones before it left. That is 2.6e-4
    after the first epoch and 7.8e-4 after the third, where the largest difference seen was 6e-5
    (the hybrid tower's) and workers that do not average their gradients are off by 2.8e-3 or more.
    """
    steps = math.ceil(len(before().interactions) / batch) * epoch
    return batch * steps * float(np.finfo(np.float32).eps)


def one_swap() -> float:
    """Return how much the mean NDCG changes where one user's first and second item change places.

    Scores that are equal but for their rounding may be ranked either way.
    """
    return (1 - 1 / math.log2(3)) / len(validation().users)


@pytest.fixture(scope="module")
def unbroken(local_ray: Session, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is kept of two phases on two Ray workers, and `seen`, what was told of their epochs."""
    seen: list[tuple[str, dict[str, Any]]] = []
    place = str(tmp_path_factory.mktemp("unbroken"))
    done = train_on_ray(phases(), place, lambda *epoch: seen.append(epoch))
    return {**done, "seen": seen, "place": place}


def test_every_epoch_is_told_of_as_it_ends(unbroken: dict[str, Any]) -> None:
    told = [(phase, row) for phase in phases() for row in unbroken[phase]["curve"]]
    assert unbroken["seen"] == told


def test_two_workers_train_as_one_with_twice_the_batch(
    unbroken: dict[str, Any], tmp_path: Path
) -> None:
    alone = train_here(phases(batch_size=64), str(tmp_path))
    for phase, state in alone.items():
        both = zip(unbroken[phase]["curve"], state["curve"], strict=phase == "select")
        for ours, single in both:
            assert ours["loss"] == pytest.approx(single["loss"], rel=rounding(single["epoch"]))
            assert ours.get("ndcg") == pytest.approx(single.get("ndcg"), abs=one_swap())
    # The best epoch, for which the second phase lasts, unless a swap makes another one better.
    ndcg = [row["ndcg"] for row in alone["select"]["curve"]]
    chosen = unbroken["select"]["best"]["epoch"]
    assert ndcg[chosen - 1] >= max(ndcg) - 2 * one_swap()
    assert len(unbroken["refit"]["curve"]) == chosen
    assert len(alone["refit"]["curve"]) == alone["select"]["best"]["epoch"]


def test_what_is_over_is_read_and_not_trained_again(unbroken: dict[str, Any]) -> None:
    told: list[Any] = []
    for again in (train_on_ray, train_here):
        done = again(phases(), unbroken["place"], lambda *epoch: told.append(epoch))
        assert all(same_weights(done[phase], unbroken[phase]) for phase in phases())
    assert not told


def test_each_loss_and_tower_on_two_workers_is_as_on_one(tmp_path: Path) -> None:
    """The same without Ray, for every loss and tower, and for parts that are not used."""
    jobs = [make_job(loss=loss(), batch_size=32, half_life=30) for loss in LOSSES.values()]
    n_users, n_items = len(jobs[0].inputs.warm_users), len(jobs[0].inputs.warm_items)
    for history, context in ((0, "all"), (5, "before")):
        tower = TwoTower(width=8, history=history, hidden=4, normalize=True)
        jobs.append(
            make_job(
                tower=tower,
                batch_size=32,
                context=context,
                inputs=plain_inputs(n_users, n_items),
            )
        )
    # Dropout draws anew on each worker, as it does in each row of a batch.
    small = {"width": 8, "dropout": 0.0}
    for entry in (tower for tower in TOWERS.values() if not tower.closed_form()):
        length = 4 if entry is HistoryTransformer else entry.model_fields["history"].default
        whole = entry.model_validate(small | {"history": length})
        jobs.append(make_job(tower=whole, loss=suiting(whole), batch_size=32, half_life=30))
    jobs.append(make_job(loss=BPR(hard=4), batch_size=32))
    spawn(gloo_worker, (2, jobs, str(tmp_path)), nprocs=2)
    for number, half in enumerate(jobs):
        training = half.training.model_copy(update={"batch_size": 64})
        alone = train(replace(half, training=training), Worker())
        shared = read_curve(tmp_path, number)
        for ours, single in zip(shared, alone["curve"], strict=True):
            assert ours["loss"] == pytest.approx(single["loss"], rel=rounding(single["epoch"]))


def test_without_ray_the_same_name_goes_on_where_it_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "train.trainer.workers")
    whole, place = phases(workers=0), str(tmp_path / "place")
    straight = train_here(whole, str(tmp_path / "straight"))
    in_one_go = epochs_logged(caplog)
    caplog.clear()
    for stop in (("select", 2), ("select", EPOCHS), ("refit", 1)):
        with pytest.raises(KeyboardInterrupt):
            train_here(whole, place, interrupting(stop))
    halves = train_here(whole, place)
    assert epochs_logged(caplog) == in_one_go
    assert "select: going on after epoch 2" in caplog.messages
    assert "refit: going on after epoch 1" in caplog.messages
    kept = straight["select"]["best"]["epoch"]
    assert f"select: trained before, epoch {kept} of {EPOCHS} is kept" in caplog.messages
    for phase, state in straight.items():
        assert numbers(halves[phase]["curve"]) == numbers(state["curve"])
        assert same_weights(halves[phase], state)


def interrupting(stop: tuple[str, int]) -> Callable[[str, dict[str, Any]], None]:
    """Return what ends training as by Ctrl-C once it is told of an epoch of a phase."""

    def watch(phase: str, row: dict[str, Any]) -> None:
        if (phase, row["epoch"]) == stop:
            raise KeyboardInterrupt

    return watch


def epochs_logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    found = re.findall(r"(\w+): epoch (\d+), loss", caplog.text)
    return [(phase, int(epoch)) for phase, epoch in found]


@contextmanager
def after_the_first_epoch(
    caplog: pytest.LogCaptureFixture, act: Callable[[], None]
) -> Iterator[threading.Event]:
    """Call `act` once an epoch is in the log, and so in a checkpoint; the event says that it was.

    A checkpoint's file is there before Ray knows of it, and an epoch is logged after that.
    """
    over, acted = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if epochs_logged(caplog):
                act()
                acted.set()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield acted
    finally:
        over.set()
        thread.join()


class Held(InBatchSoftmax):
    """The loss of `job`, which after some steps of a process waits for a file to be there.

    Attributes:
        steps: more than an epoch has, and fewer than all epochs.
        file: that it waits for.
    """

    taken: ClassVar[Iterator[int]] = itertools.count()

    steps: int
    file: str

    def __call__(self, inputs: LossInputs) -> torch.Tensor:
        if next(self.taken) == self.steps:
            wait_until(Path(self.file).exists, self.file)
        return super().__call__(inputs)


def kill_a_worker(file: Path) -> None:
    """Kill one of this test's own Ray Train workers, and then write a file."""
    children = psutil.Process().children(recursive=True)
    worker = next(one for one in children if "RayTrainWorker" in command_of(one))
    worker.kill()
    file.touch()


def command_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def test_a_killed_worker_changes_no_result(
    unbroken: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "train.trainer.workers")
    file = tmp_path / "killed"
    held = Held(steps=3 * len(job().interactions) // 64, file=str(file))
    with after_the_first_epoch(caplog, partial(kill_a_worker, file)) as killed:
        done = train_on_ray(phases(max_failures=1, loss=held), str(tmp_path / "place"))
    assert killed.is_set()
    for phase, state in done.items():
        assert numbers(state["curve"]) == numbers(unbroken[phase]["curve"])
        assert same_weights(state, unbroken[phase])
        assert epochs_logged(caplog).count((phase, 1)) == 1


def test_on_ray_an_interrupted_run_goes_on_and_a_diverged_loss_says_what_to_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both in one run, as workers take long to start: its second phase diverges."""
    caplog.set_level(logging.INFO, "train.trainer.workers")
    before, long = signal.getsignal(signal.SIGINT), job(workers=1, epochs=500, validation=None)
    interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
    with (
        pytest.raises(KeyboardInterrupt),
        after_the_first_epoch(caplog, interrupt),
    ):
        train_on_ray({"select": long}, str(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before
    _, reached = max(epochs_logged(caplog))
    rest = replace(long, stop_after=reached + 2)
    both = {"select": rest, "refit": job(workers=1, validation=None, learning_rate=1e30)}
    with pytest.raises(ValueError, match=r"loss is nan in epoch 1; lower train.learning_rate"):
        train_on_ray(both, str(tmp_path))
    assert epochs_logged(caplog).count(("select", 1)) == 1
    done = finished(both, str(tmp_path))
    assert done.keys() == {"select"}
    assert same_weights(done["select"], train(rest, Worker()))

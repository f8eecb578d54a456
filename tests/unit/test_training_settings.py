"""Each setting of `[train]` changes what it names over a training, and nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
import ray.train.torch
import torch

from tests.recording import Recording, pairs, pairs_job, record
from tests.training import before, small, validation
from train.config import Run
from train.core.schema import Interactions
from train.data.snapshot import validation_holdout
from train.losses.softmax import SampledSoftmax
from train.steps import tower_job
from train.towers.two_tower import TwoTower
from train.trainer import workers
from train.trainer.job import Job, Training
from train.trainer.workers import train_here, train_on_ray

DRAWN = 5
SCORES = (0.1, 0.4, 0.39, 0.2, 0.2, 0.2)
"""What the validation says, an epoch each."""


def job(**changes: Any) -> Job:
    """Return a job in which every setting can have an effect: a day between ratings of 1 to 5."""
    known = pairs()
    drawn = np.random.default_rng(1).integers(1, 6, len(known)).astype(np.float32)
    values = {"epochs": 5, "patience": 4, "context_length": 3, "learning_rate": 0.01}
    return pairs_job(
        loss=SampledSoftmax(count=DRAWN),
        tower=TwoTower(width=4, history=9),
        interactions=Interactions(known.user, known.item, known.timestamp * 86_400, drawn),
        validation=validation(),
        **(values | changes),
    )


def aspects(found: Recording) -> dict[str, Any]:
    """Return what can be seen of a training, each aspect by itself."""
    steps = found.epoch(1)
    return {
        "epochs": found.state["epoch"],
        "kept": found.state["best"]["epoch"],
        "steps": len(steps),
        "size": len(steps[0].users),
        "order": [user for step in steps for user in step.users.tolist()][:16],
        "positives": sum(len(step.items) - DRAWN for step in steps),
        "negatives": steps[0].items[-DRAWN:].tolist(),
        "history": steps[0].history.tolist(),
        "first rate": steps[0].rate,
        "last rate": found.steps[-1].rate,
        "decay": steps[0].decay,
        "gradient": steps[0].gradient.tolist(),
        "losses": [row["loss"] for row in found.state["curve"]][:2],
    }


class Row(NamedTuple):
    """A value of a setting that `job` does not have, and all aspects that it changes."""

    value: Any
    changes: set[str]


# Where there are fewer steps, the last one of them is further from where the rate is 0.
IN_THE_LOOP = {
    "examples": Row(
        "users",
        {"steps", "order", "positives", "history", "last rate", "gradient", "losses"},
    ),
    "batch_size": Row(32, {"steps", "size", "history", "last rate", "gradient", "losses"}),
    "epochs": Row(6, {"epochs", "last rate", "losses"}),
    "epoch_examples": Row(64, {"steps", "positives", "last rate", "losses"}),
    "patience": Row(1, {"epochs", "last rate"}),
    "tolerance": Row(0.05, {"kept"}),
    "optimizer": Row("rowwise_adam", {"losses"}),
    "learning_rate": Row(0.02, {"first rate", "last rate", "losses"}),
    "weight_decay": Row(0.9, {"decay", "losses"}),
    "context": Row("before", {"history", "gradient", "losses"}),
    "context_length": Row(2, {"history", "gradient", "losses"}),
    "half_life": Row(20.0, {"gradient", "losses"}),
    "weighted": Row(True, {"gradient", "losses"}),
}
AROUND_IT = {
    "validation_users",
    "workers",
    "gpu",
    "wait",
    "max_failures",
    "threads",
    "checkpoint_minutes",
}


def test_every_setting_is_tested_here() -> None:
    assert {*IN_THE_LOOP, *AROUND_IT} == set(Training.model_fields)
    assert not AROUND_IT & set(IN_THE_LOOP)


@pytest.mark.parametrize("name", IN_THE_LOOP)
def test_a_setting_changes_what_it_names_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(**changes: Any) -> dict[str, Any]:
        said = iter(SCORES)
        monkeypatch.setattr("train.trainer.loop.validation_ndcg", lambda *given: next(said))
        return aspects(record(job(**changes)))

    row = IN_THE_LOOP[name]
    plain, changed = seen(), seen(**{name: row.value})
    assert {aspect for aspect in plain if plain[aspect] != changed[aspect]} == row.changes


@pytest.mark.parametrize("count", [None, 7])
def test_validation_users_are_how_many_are_ranked(count: int | None) -> None:
    data, folds = small()
    window = validation_holdout(data, folds, before())
    settings = {"data": {"name": "generated"}, "train": {"validation_users": count}}
    found = tower_job(Run.model_validate(settings), before(), window).validation
    assert found is not None and len(window.users) > 7
    assert len(found.users) == len(found.histories) == len(found.relevant)
    assert len(found.users) == (count or len(window.users))


class Asked(NamedTuple):
    """What of a training's settings Ray is asked for."""

    workers: int
    gpu: bool
    max_failures: int


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Asked:
    """Return that, where no worker is started; a worker that returns a text has failed by it."""
    given: dict[str, Any] = {}

    class Trainer:
        def __init__(self, worker: Any, **settings: Any) -> None:
            given.update(settings)

        def fit(self) -> SimpleNamespace:
            return SimpleNamespace(return_value="not started")

    node = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 8.0}}
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", Trainer)
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "nodes", lambda: [node])
    with pytest.raises(ValueError, match="not started"):
        train_on_ray({"select": pairs_job(**changes)}, str(folder))
    scaling = given["scaling_config"]
    failures = given["run_config"].failure_config.max_failures
    return Asked(scaling.num_workers, scaling.use_gpu, failures)


def test_ray_is_asked_for_workers_gpus_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(**changes: Any) -> Asked:
        return asked(tmp_path, monkeypatch, **({"gpu": False} | changes))

    assert of() == Asked(1, False, 2)
    assert of(workers=3) == Asked(3, False, 2)
    assert of(gpu=True) == of(gpu="auto") == Asked(1, True, 2)
    assert of(max_failures=7) == Asked(1, False, 7)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_torch_while_it_trains(threads: int, tmp_path: Path) -> None:
    seen: list[int] = []
    job = pairs_job(threads=threads, gpu=False)
    around = torch.get_num_threads()
    train_here({"select": job}, str(tmp_path), lambda *_: seen.append(torch.get_num_threads()))
    assert seen == [threads] * 3
    assert torch.get_num_threads() == around


@pytest.mark.parametrize(("cpus", "expected"), [(8, 5), (3, 3)])
def test_without_threads_torch_keeps_its_own_within_the_cpus_it_may_use(
    cpus: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(workers, "available_cpus", lambda: cpus)
    around = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        job = pairs_job(threads=0, gpu=False)
        train_here({"select": job}, str(tmp_path), lambda *_: seen.append(torch.get_num_threads()))
    finally:
        torch.set_num_threads(around)
    assert seen == [expected] * 3


@pytest.mark.parametrize(
    ("threads", "cpus", "on_this_node", "expected"), [(0, 8, 3, 2), (0, 2, 3, 1), (5, 8, 3, 5)]
)
def test_workers_of_a_node_share_its_cpus_unless_threads_are_set(
    threads: int, cpus: int, on_this_node: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    context = SimpleNamespace(
        get_world_size=lambda: 4,
        get_world_rank=lambda: 0,
        get_local_world_size=lambda: on_this_node,
    )
    monkeypatch.setattr(workers, "available_cpus", lambda: cpus)
    monkeypatch.setattr(workers, "train_phases", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(ray, "get", lambda jobs: jobs)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    around = torch.get_num_threads()
    try:
        job = pairs_job(threads=threads, gpu=False)
        assert workers._worker({"jobs": {"select": job}, "place": "unused"}) is None
    finally:
        torch.set_num_threads(around)
    assert seen == [expected]

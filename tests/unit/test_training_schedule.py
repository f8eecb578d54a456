"""What a training does where nobody says it: by the number of examples."""

import numpy as np
import pytest

from tests.training import events, plain_inputs
from train.losses.softmax import InBatchSoftmax
from train.towers.history_transformer import HistoryTransformer
from train.towers.two_tower import TwoTower
from train.trainer.job import Job, Training
from train.trainer.schedule import Schedule


@pytest.mark.parametrize(
    ("examples", "batch", "rate", "epochs", "decay"),
    [
        (1, 256, 0.005, 10, 0.5),
        (72_000, 256, 0.005, 10, 0.5),
        (300_000, 256, 0.005, 10, 0.5),
        (500_000, 512, 0.003, 10, 0.1),
        (1_200_000, 1024, 0.0013, 6, 0.1),
        (100_000_000, 1024, 0.001, 5, 0.1),
    ],
)
def test_more_examples_have_larger_steps_a_lower_rate_and_fewer_epochs(
    examples: int, batch: int, rate: float, epochs: int, decay: float
) -> None:
    found = Schedule.of(Training(), examples, 1)
    assert found == Schedule(batch, epochs, rate, 3, decay)


def test_what_is_asked_for_is_done() -> None:
    asked = {"batch_size": 7, "epochs": 2, "learning_rate": 0.5, "patience": 9, "weight_decay": 0}
    assert Schedule.of(Training(**asked), 10**6, 3) == Schedule(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_workers_share_the_batch_and_take_the_same_rate(workers: int) -> None:
    one, some = (Schedule.of(Training(), 500_000, count) for count in (1, workers))
    assert some.batch_size * max(1, workers) == one.batch_size
    assert (some.learning_rate, some.epochs) == (one.learning_rate, one.epochs)


def test_a_later_phase_has_the_schedule_of_the_first_one() -> None:
    first = Training().settled(100_000)
    assert Schedule.of(first, 10**7, 1) == Schedule.of(Training(), 100_000, 1)


def test_sequences_are_examples_of_their_users() -> None:
    known = events(np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6))
    counts = [
        tower.count_examples(known, "interactions") for tower in (TwoTower(), HistoryTransformer())
    ]
    assert counts == [30, 6]
    assert TwoTower().count_examples(known, "users") == 6
    job = Job(TwoTower(), InBatchSoftmax(), Training(), 0, plain_inputs(6, 5), known)
    assert job.schedule == Schedule.of(Training(), 30, 1)

"""One training step of a DSSM: rows looked up by index against dense rows taken one by one.

Run as `python -m tests.benchmarks.dssm_step`. Batch 1,024 with 10 negatives each, 12,029 items of
835 category columns, as study C has them. Its step took 2.1 s on a GPU, all of it its loader, which
is built again here: a positive drawn by a user's row over all items, negatives drawn without
replacement, and rows of tables as tensors. Its table of items has columns of two types, so pandas
makes a row of it column by column. For comparison, also the least that dense rows cost: arrays that
numpy fills. The towers are the same everywhere; ours learn a vector of each item too, so that the
interactions are as wide.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.losses.pairwise import Triplet
from train.towers.dssm import DSSM
from train.towers.layers import Deep
from train.trainer.epoch import _sampling, batch_loss
from train.trainer.examples import examples
from train.trainer.job import Job, Training, Worker
from train.trainer.negatives import Negatives
from train.trainer.optimizers import Optimizers

USERS, ITEMS, TAKEN = 20_000, 12_029, 25
USER_COLUMNS, ITEM_COLUMNS = 16, 835
BATCH, NEGATIVES, WIDTH, MARGIN = 1024, 10, 128, 0.4
ROUNDS = 5
GENRES = 95

Step = tuple[Callable[[], Any], Callable[[Any], float]]


def main() -> None:
    """Print the seconds of a step of each, taking turns, and the ratios."""
    job = planted()
    steps = {"by index": by_index(job), "as studied": as_studied(job), "arrays": in_arrays(job)}
    times = [{name: timed(*step) for name, step in steps.items()} for _ in range(ROUNDS + 1)][1:]
    print(f"B = {BATCH}, {NEGATIVES} negatives, {torch.get_num_threads()} threads")
    found = {name: [median(t[name][part] for t in times) for part in (0, 1)] for name in steps}
    for name, (making, step) in found.items():
        print(f"{name:10}  a step {1e3 * step:5.0f} ms, of it the batch {1e3 * making:5.0f} ms")
    ours = found["by index"]
    print(f"ratio  the study's 2.1 s on its GPU / by index here  {2.1 / ours[1]:.0f}")
    for name, note in (("as studied", "target 50"), ("arrays", "for comparison")):
        making, step = found[name]
        print(f"ratio  a step: {name} / by index  {step / ours[1]:.1f} ({note})")
        print(f"ratio  a batch: {name} / by index  {making / ours[0]:.0f}")


def timed(make: Callable[[], Any], learn: Callable[[Any], float]) -> tuple[float, float]:
    """Return the seconds of making a batch, and of the whole step."""
    began = time.perf_counter()
    batch = make()
    made = time.perf_counter()
    learn(batch)
    return made - began, time.perf_counter() - began


def planted() -> Job:
    """Return a job on users with interactions and on items with categories, all drawn evenly."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), TAKEN)
    item = rng.integers(0, ITEMS, len(user))
    inputs = TowerInputs(
        categories(rng, USERS, USER_COLUMNS, 4),
        categories(rng, ITEMS, ITEM_COLUMNS, 8),
        np.ones(USERS, bool),
        np.ones(ITEMS, bool),
    )
    return Job(
        DSSM(width=WIDTH, item_id=True, history=TAKEN),
        Triplet(margin=MARGIN, count=NEGATIVES),
        Training(batch_size=BATCH, learning_rate=1e-3, weight_decay=0, context_length=TAKEN),
        0,
        inputs,
        Interactions.ordered(user, item, np.arange(len(user)), np.ones(len(user))),
    )


def categories(rng: np.random.Generator, rows: int, columns: int, each: int) -> Features:
    codes = rng.integers(0, columns, rows * each).astype(np.int32)
    names = tuple(f"column={code}" for code in range(columns))
    offsets = np.arange(rows + 1) * each
    return Features(np.zeros((rows, 0), np.float32), (), Ragged(codes, offsets), names)


def by_index(job: Job) -> Step:
    """Return what makes a batch of our loop, and what learns from it."""
    torch.manual_seed(0)
    worker, model = Worker(), job.tower.build(job.inputs)
    optimizer = Optimizers(model, job.schedule, "adamw", rowwise=False, workers=1).dense
    assert optimizer is not None
    data = examples(job.interactions, USERS, worker.device)
    negatives = Negatives.of(job.loss, job.interactions.item, ITEMS, BATCH, worker.device)
    order = iter(torch.randperm(len(data)).split(BATCH))
    sampling = _sampling(job.training, worker, 0)

    def make() -> Any:
        batch = job.tower.training_batch(data, next(order), sampling)
        return batch, negatives.draw(batch, 0)

    def learn(made: Any) -> float:
        batch, drawn = made
        return descend(batch_loss(model, job.loss, batch, drawn, negatives), optimizer)

    return make, learn


class Studied(Dataset[Any]):
    """Examples of study C: of each user a dense row, a drawn positive and negatives."""

    def __init__(self, job: Job) -> None:
        self.rows = np.zeros((USERS, ITEMS))
        self.rows[np.repeat(np.arange(USERS), TAKEN), job.interactions.item] = 1
        self.rows /= self.rows.sum(axis=1, keepdims=True)
        self.users = frame(job.inputs.user_features.categories, USER_COLUMNS)
        items = frame(job.inputs.item_features.categories, ITEM_COLUMNS)
        self.items = pd.concat(
            [items.iloc[:, :-GENRES], items.iloc[:, -GENRES:].astype(int)], axis=1
        )

    def __len__(self) -> int:
        """Return how many users there are."""
        return USERS

    def __getitem__(self, user: int) -> tuple[Tensor, ...]:
        """Return a user's columns, the interactions, and the positive above the negatives."""
        positive = np.random.choice(range(ITEMS), p=self.rows[user])
        negatives = np.random.choice(range(ITEMS), size=NEGATIVES, replace=False)
        items = np.stack([self.items.iloc[item].to_numpy() for item in (positive, *negatives)])
        parts = self.users.iloc[user].to_numpy(), self.rows[user], items
        return tuple(torch.tensor(part, dtype=torch.float32) for part in parts)


def as_studied(job: Job) -> Step:
    """Return what makes a batch as study C does, and what learns from it."""
    np.random.seed(0)
    batches = iter(DataLoader(Studied(job), BATCH, shuffle=True))
    return lambda: next(batches), descent()


def in_arrays(job: Job) -> Step:
    """Return what makes a batch of dense rows with as little work as they allow."""
    taken = job.interactions.item.reshape(USERS, TAKEN)
    of_users, of_items = (
        features.categories.values.reshape(len(features.categories), -1)
        for features in (job.inputs.user_features, job.inputs.item_features)
    )
    rng = np.random.default_rng(0)

    def example() -> tuple[Any, Any, list[Any]]:
        user, place = int(rng.integers(USERS)), int(rng.integers(TAKEN))
        items = [taken[user, place], *rng.integers(0, ITEMS, NEGATIVES)]
        return (
            row(of_users[user], USER_COLUMNS, 1.0),
            row(np.delete(taken[user], place), ITEMS, 1 / (TAKEN - 1)),
            [row(of_items[item], ITEM_COLUMNS, 1.0) for item in items],
        )

    def make() -> list[Tensor]:
        columns = zip(*(example() for _ in range(BATCH)), strict=True)
        return [torch.from_numpy(np.array(column)) for column in columns]

    return make, descent()


def frame(categories: Ragged, width: int) -> pd.DataFrame:
    found = np.zeros((len(categories), width), np.uint8)
    found[categories.rows, categories.values] = 1
    return pd.DataFrame(found)


def row(index: Array, width: int, value: float) -> Array:
    found = np.zeros(width, np.float32)
    found[index] = value
    return found


def descent() -> Callable[[Any], float]:
    """Return what learns from a batch of dense rows."""
    torch.manual_seed(0)
    model = Dense()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return lambda made: descend(model(*made), optimizer)


class Dense(nn.Module):
    """The towers of study C with linear layers over rows; its loss on squared distances."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.history, self.item = (
            nn.Linear(width, WIDTH) for width in (USER_COLUMNS, ITEMS, ITEM_COLUMNS)
        )
        self.user_layers, self.item_layers = (Deep(WIDTH, "layer", 0.2) for _ in range(2))

    def forward(self, users: Tensor, histories: Tensor, items: Tensor) -> Tensor:
        """Return the loss of users `[B, 16]`, histories `[B, I]` and items `[B, 11, 835]`."""
        vectors = self.user_layers(self.user(users)) + self.history(histories)
        distance = (vectors[:, None] - self.item_layers(self.item(items))).square().sum(2)
        return F.relu(MARGIN + distance[:, :1] - distance[:, 1:]).mean()


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


if __name__ == "__main__":
    main()

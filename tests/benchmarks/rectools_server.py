"""A reference for `others.py`: RecTools' SASRec, run by a Python that has `rectools[torch]`.

`PYTHON rectools_server.py KNOWN RESULT SETTINGS`: trains on what is in the file KNOWN for as long
as SETTINGS (JSON) say, and writes the file RESULT. It imports nothing of ours.
"""

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Budget(Callback):
    """Ends training after so many seconds of this process, and counts what was trained on."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.spent, self.positions, self.epochs = seconds, 0.0, 0, 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.began = time.process_time()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self.positions += int((batch["y"] != 0).sum())
        self.epochs = trainer.current_epoch + (index + 1) / trainer.num_training_batches
        self.spent = time.process_time() - self.began
        trainer.should_stop = self.spent >= self.seconds


def main(known: str, result: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    seed_everything(0)
    data, users = read(known)
    model = SASRecModel(
        n_factors=settings["width"],
        n_blocks=settings["blocks"],
        n_heads=settings["heads"],
        session_max_len=settings["history"],
        batch_size=settings["batch"],
        lr=settings["rate"],
        loss=settings["loss"],
        get_trainer_func=lambda: trainer(settings["seconds"]),
        recommend_torch_device="cpu",
    )
    model.fit(data)
    # The model fits with a copy of its trainer.
    budget = next(each for each in model.fit_trainer.callbacks if isinstance(each, Budget))
    np.savez(
        result,
        ranked=best(model, data, users),
        seconds=budget.spent,
        positions=budget.positions,
        epochs=budget.epochs,
        versions=f"RecTools {version('rectools')}, torch {version('torch')}",
    )


def read(known: str) -> tuple[Any, Any]:
    """Return the interactions, in the order given, and all users."""
    arrays = np.load(known)
    order = pd.to_datetime(np.arange(len(arrays["user"])), unit="s")
    columns = {"user_id": arrays["user"], "item_id": arrays["item"], "datetime": order}
    table = pd.DataFrame(columns).assign(weight=1.0)
    return Dataset.construct(table), np.unique(arrays["user"])


def trainer(seconds: float) -> Any:
    """Return Lightning's trainer of so many seconds, with nothing beside the training itself."""
    plain: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "max_epochs": 1000}
    plain |= {"logger": False, "enable_checkpointing": False}
    plain |= {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(callbacks=[Budget(seconds)], **plain)


def best(model: Any, data: Any, users: Any) -> Any:
    """Return the ten best items of each user that the user did not have, -1 after the last."""
    table = model.recommend(users=users, dataset=data, k=10, filter_viewed=True)
    ranked = np.full((len(users), 10), -1)
    row = np.searchsorted(users, table["user_id"])
    ranked[row, table["rank"].to_numpy() - 1] = table["item_id"]
    return ranked


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))

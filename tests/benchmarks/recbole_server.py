"""A reference for `others.py`: RecBole's BPR, run by a Python that has `recbole`.

`PYTHON recbole_server.py KNOWN RESULT SETTINGS`: trains on what is in the file KNOWN for as long
as SETTINGS (JSON) say, and writes the file RESULT. It imports nothing of ours.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader.general_dataloader import TrainDataLoader
from recbole.model.general_recommender.bpr import BPR
from recbole.sampler import Sampler
from recbole.trainer import Trainer
from recbole.utils import init_seed


def main(known: str, result: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    arrays = np.load(known)
    config = configured(arrays, Path(known).parent, settings)
    init_seed(0, True)
    data = create_dataset(config)
    train = data.build()[0]
    loader = TrainDataLoader(config, train, Sampler(["train"], [train]).set_phase("train"), True)
    model = BPR(config, train)
    epochs, seconds = fit(Trainer(config, model), loader, settings["seconds"])
    np.savez(
        result,
        ranked=best(model, data, arrays),
        seconds=seconds,
        positions=epochs * len(arrays["user"]),
        epochs=epochs,
        versions=f"RecBole {version('recbole')}, torch {version('torch')}",
    )


def configured(arrays: Any, folder: Path, settings: dict[str, Any]) -> Any:
    """Write the interactions as RecBole reads them; return the configuration that does."""
    place = folder / "known"
    place.mkdir(exist_ok=True)
    columns = {"user_id:token": arrays["user"], "item_id:token": arrays["item"]}
    pd.DataFrame(columns).to_csv(place / "known.inter", sep="\t", index=False)
    everything = {"split": {"RS": [1.0, 0.0, 0.0]}, "group_by": None, "order": "RO", "mode": "full"}
    own = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_args": everything,
        "embedding_size": settings["width"],
        "train_batch_size": settings["batch"],
        "learning_rate": settings["rate"],
        "checkpoint_dir": str(folder / "saved"),
        "use_gpu": False,
        "show_progress": False,
        "state": "WARNING",
    }
    # RecBole reads the command line too.
    sys.argv = sys.argv[:1]
    return Config(model="BPR", dataset="known", config_dict=own)


def fit(trainer: Any, loader: Any, budget: float) -> tuple[int, float]:
    """Train for whole epochs of about so many seconds of this process; return both."""
    epochs, spent, began = 0, 0.0, time.process_time()
    while not epochs or spent + spent / epochs / 2 < budget:
        trainer._train_epoch(loader, epochs)
        epochs, spent = epochs + 1, time.process_time() - began
    return epochs, spent


@torch.no_grad()
def best(model: Any, data: Any, arrays: Any) -> Any:
    """Return the ten best items of each user that the user did not have."""
    user, item = (
        data.token2id(field, arrays[name].astype(str))
        for field, name in (("user_id", "user"), ("item_id", "item"))
    )
    vectors = model.user_embedding.weight, model.item_embedding.weight
    scores = (vectors[0] @ vectors[1].T).cpu().numpy()
    scores[user, item] = -np.inf
    # The first row and column are padding.
    scores[:, 0] = -np.inf
    top = np.argsort(-scores, axis=1)[:, :10]
    names = data.field2id_token["item_id"]
    users = data.token2id("user_id", np.unique(arrays["user"]).astype(str))
    return names[top[users]].astype(np.int64)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))

"""A small sweep of generated data, as its files, and what it keeps."""

import json
from pathlib import Path
from typing import Any

RUN = """
name = "small"
tower = { name = "two_tower", width = 8, history = 20 }
[data]
name = "generated"
users = 200
items = 120
interactions = 5000
[train]
workers = 2
batch_size = 128
epochs = 3
max_failures = 2
"""
SWEEP = """
run = "run.toml"
trials = 4
trials_at_once = 1
tracking = "mlflow"
seed = 5
[space]
train.learning_rate.choice = [0.01, 1e30]
loss.choice = [
    { name = "in_batch_softmax", temperature = { uniform = [0.5, 2] } },
    { name = "bpr" },
]
"""


def records(name: str, storage: str = "runs") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(f"{storage}/{name}/trials.json").read_text())
    return found

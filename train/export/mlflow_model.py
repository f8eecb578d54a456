"""A bundle as an MLflow model: a folder that `mlflow models serve` answers from, without Ray.

It holds the bundle, the packages that open it and `pyfunc.py`, which MLflow runs; no pickle.
"""

import os
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from cluster import storage
from train.bundle.bundle import Bundle

# Set where the shell has not.
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
ROOT = Path(__file__).parents[2]
# Requirements of the copied packages; versions are those that wrote the folder.
NEEDED = (
    "mlflow-skinny",
    "pandas",
    "numpy",
    "scipy",
    "pyarrow",
    "safetensors",
    "catboost",
    "pydantic",
)


def export_mlflow(bundle: Bundle, folder: Path) -> None:
    """Write a bundle as an MLflow model of the flavor `python_function`.

    Its input is a table of `user_id` and `k` (https://mlflow.org/docs/latest/ml/deployment/).

    Args:
        bundle: to export.
        folder: of the model, written atomically; it must not exist.

    Raises:
        FileExistsError: the folder exists.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    example = {"user_id": bundle.recommender.users.external(np.arange(1)), "k": [10]}
    with storage.new_folder(folder) as draft:
        mlflow.pyfunc.save_model(
            path=str(draft),
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"bundle": str(bundle.folder.absolute())},
            code_paths=[str(ROOT / "train"), str(ROOT / "cluster")],
            signature=_signature(bundle),
            input_example=pd.DataFrame(example),
            pip_requirements=[f"{name}=={version(name)}" for name in _needed(bundle)],
        )


def _needed(bundle: Bundle) -> tuple[str, ...]:
    # hnswlib is published as source alone: it is required only by a bundle with an HNSW graph.
    return (*NEEDED, "hnswlib") if bundle.recommender.index.report["used"] == "hnsw" else NEEDED


def _signature(bundle: Bundle) -> ModelSignature:
    ids = DataType.long if bundle.recommender.users.is_integer else DataType.string
    return ModelSignature(inputs=Schema([ColSpec(ids, "user_id"), ColSpec(DataType.long, "k")]))

"""The model that MLflow loads from an exported folder; `train.export.mlflow_model` copies it there.

MLflow runs this file and loads the model given to `set_model`
(https://mlflow.org/docs/latest/ml/model/models-from-code/). Beside it lie the bundle and the
packages that open it.
"""

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from train.bundle.bundle import open_bundle
from train.recommender.answers import recommend
from train.recommender.requests import Request

MAX_K = 1000


class RecommenderModel(PythonModel):
    """An MLflow model of both stages; its answers are those of `train.recommender.answers`."""

    def load_context(self, context: Any) -> None:
        """Open the bundle, every file checked."""
        self.recommender = open_bundle(context.artifacts["bundle"]).recommender

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[list[tuple[int | str, float, str | None]]]:
        """Return the best items of every row, `[item id, score, title]` each.

        Args:
            context: unused.
            model_input: `user_id`, of the type of the interactions, and `k` from 1 to 1000; unknown
                users get popular items.
            params: unused.

        Raises:
            MlflowException: a `k` out of range; over HTTP it is a 400.
        """
        requests = _requests(model_input)
        return [
            [(item["item_id"], item["score"], item.get("title")) for item in answer["items"]]
            for answer in recommend(self.recommender, requests)
        ]


def _requests(table: pd.DataFrame) -> list[Request]:
    wrong = [k for k in table["k"].tolist() if not 1 <= k <= MAX_K]
    if wrong:
        raise MlflowException(
            f"k: expected from 1 to {MAX_K}, got {wrong[0]}", error_code=INVALID_PARAMETER_VALUE
        )
    pairs = zip(table["user_id"].tolist(), table["k"].tolist(), strict=True)
    return [Request(user_id=user, k=k) for user, k in pairs]


set_model(RecommenderModel())

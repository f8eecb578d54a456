"""MLflow tracking: a run in MLflow with the settings, curves, metrics and report of a fit.

A store that cannot be reached is refused before anything is trained. If it fails afterwards,
training goes on, and the epochs that it missed are logged when their phase completes.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cluster import storage
from train.core.redact import plain
from train.tracking.base import Tracker, Tracking

logger = logging.getLogger(__name__)

FILE = "mlflow.json"
PARENT = "mlflow.parentRunId"
LOGGED = ("loss", "ndcg")  # of an epoch
MAX_VALUE = 6000  # characters of a parameter; MLflow refuses more

# Set where the shell has not. MLflow would wait minutes for a server that is away, tell its makers
# of each use, and print to where a fit prints its bundle.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MLflow(Tracking):
    """An MLflow run for each fit (https://mlflow.org/docs/latest/ml/tracking/).

    Attributes:
        uri: of a tracking server (`http://HOST:5000`) or a database (`sqlite:///FILE`); by default
            `mlflow.db` beside the runs.
        experiment: that the run belongs to; made where it is not there.
    """

    name: Literal["mlflow"] = "mlflow"
    uri: str | None = Field(default=None, min_length=1)
    experiment: str = Field(default="raytower", min_length=1)

    def tracker(self, run: str, home: str) -> Tracker:
        """Connect to the store, and create the experiment where it is not there."""
        return _MLflowTracker(self, self.uri or _local(home), run, home)


def _local(home: str) -> str:
    folder = storage.parent(home)
    if storage.is_uri(folder):
        raise ValueError(
            f"tracking.uri: is needed where storage is a URI ({folder}); expected that of an "
            "MLflow server or of a database, such as sqlite:///mlflow.db"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder}/mlflow.db"


class _MLflowTracker(Tracker):
    def __init__(self, settings: MLflow, uri: str, run: str, home: str) -> None:
        self._name, self._uri, self._id_file = run, uri, storage.join(home, FILE)
        self._run, self._lost = "", False
        with self._refused():
            self._client = _client(uri)
            self._experiment = self._experiment_id(settings.experiment)

    def begin(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        with self._refused():
            self._run = self._earlier() or self._new()
            self._client.update_run(self._run, status="RUNNING")
            params = [Param(key, value) for key, value in parameters(config).items()]
            self._client.log_batch(self._run, params=params)
        logger.info("tracking: MLflow run %s in %s", self._run, plain(self._uri))

    def epoch(self, phase: str, row: Mapping[str, Any]) -> None:
        if self._lost:
            return  # every epoch would wait for a store that does not answer
        with self._missed(f"epoch {row['epoch']} of {phase}"):
            self._log(phase, [row])

    def curve(self, phase: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._missed(f"the curve of {phase}"):
            # A tower that is fitted in closed form has no loss.
            logged = [self._client.get_metric_history(self._run, f"{phase}/{k}") for k in LOGGED]
            steps = {metric.step for metrics in logged for metric in metrics}
            self._log(phase, [row for row in rows if row["epoch"] not in steps])

    def results(self, place: str, manifest: str) -> None:
        with self._missed("the result"):
            facts = json.loads(manifest)
            self._client.set_tag(self._run, "bundle.version", facts["version"])
            self._client.set_tag(self._run, "bundle.place", plain(place))
            self._metrics(finals(facts["metrics"]), facts["training"]["epochs"])
            self._client.log_text(self._run, manifest, "manifest.json")

    def report(self, page: str) -> None:
        with self._missed("the report"):
            text = storage.read_bytes(page).decode()
            self._client.log_text(self._run, text, "report.html")

    def child(
        self,
        name: str,
        settings: Mapping[str, Any],
        values: Mapping[str, float],
        curve: Sequence[Mapping[str, Any]],
        failed: str | None,
    ) -> None:
        from mlflow.entities import Param

        if self._lost or name in self._children():
            return
        with self._missed(name):
            tags = {PARENT: self._run} | ({"failed": failed} if failed else {})
            created = self._client.create_run(self._experiment, run_name=name, tags=tags)
            run = str(created.info.run_id)
            params = [Param(key, value) for key, value in parameters(settings).items()]
            self._client.log_batch(run, params=params)
            for row in curve:
                rest = {key: value for key, value in row.items() if key != "epoch"}
                self._metrics({f"select/{key}": v for key, v in rest.items()}, row["epoch"], run)
            self._metrics(values, len(curve), run)
            self._client.set_terminated(run, "FAILED" if failed else "FINISHED")

    def _children(self) -> set[str]:
        """Return the names of the child runs that were logged before an interruption."""
        names: set[str] = set()
        with self._missed("what it has"):
            children = f"tags.`{PARENT}` = '{self._run}'"
            for run in self._client.search_runs([self._experiment], children, max_results=5000):
                names.add(str(run.info.run_name))
        return names

    def end(self, error: type[BaseException] | None) -> None:
        if not self._run:
            return
        killed = error is not None and not issubclass(error, Exception)
        status = "KILLED" if killed else "FAILED" if error else "FINISHED"
        with self._missed("the end"):
            self._client.set_terminated(self._run, status)

    def _experiment_id(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=_artifacts(self._uri)))

    def _earlier(self) -> str | None:
        """Return the id of this run's MLflow run of an earlier process, if the store has it."""
        from mlflow.exceptions import MlflowException

        if not storage.exists(self._id_file):
            return None
        run_id = str(json.loads(storage.read_bytes(self._id_file))["run_id"])
        try:
            info = self._client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # another store than the last time
        return run_id if info.lifecycle_stage == "active" else None

    def _new(self) -> str:
        run_id = str(self._client.create_run(self._experiment, run_name=self._name).info.run_id)
        storage.write_bytes(self._id_file, json.dumps({"run_id": run_id}).encode())
        return run_id

    def _log(self, phase: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            values = {f"{phase}/{key}": row[key] for key in LOGGED if key in row}
            self._metrics(values, row["epoch"])

    def _metrics(self, values: Mapping[str, float], step: int, run: str | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(run or self._run, metrics=metrics)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # MLflow's own, its HTTP client's and its database's
            raise ValueError(
                f"tracking: the MLflow store {plain(self._uri)} cannot be used; start it, "
                f"or set tracking.uri, or tracking to none: {_brief(error)}"
            ) from error

    @contextmanager
    def _missed(self, what: str) -> Iterator[None]:
        try:
            yield
            self._lost = False
        except Exception as error:  # the towers are worth more than their log
            self._lost = True
            logger.warning("tracking: MLflow did not get %s: %s", what, _brief(error))


def _client(uri: str) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        needed = "pip install -c constraints.txt mlflow-skinny alembic sqlalchemy"
        raise ValueError(f"{error}; install: {needed}") from error
    return MlflowClient(tracking_uri=uri)


def _artifacts(uri: str) -> str | None:
    """Return the folder beside a database; servers know theirs, and MLflow's own is `./mlruns`."""
    if not uri.startswith("sqlite:///"):
        return None
    return str(Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlflow-artifacts")


def _brief(error: Exception) -> str:
    text: str = plain(str(error).strip() or type(error).__name__)
    return text.splitlines()[0]


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's settings as MLflow parameters: texts by dotted names (`loss.temperature`)."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        inner = value if isinstance(value, Mapping) else None
        flat |= {name: value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in flat.items()}
    return {key: text[:MAX_VALUE] for key, text in texts.items()}


def finals(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the means of the test's metrics by names such as `test/both_stages/ndcg`."""
    means = {
        f"test/{system}/{metric}": value["mean"]
        for system, values in metrics["systems"].items()
        for metric, value in values.items()
    }
    return {**means, "test/candidates/recall": metrics["recall@candidates"]["mean"]}

"""Trackers of a run, by name."""

from train.tracking.base import NoTracking, Tracking
from train.tracking.mlflow_tracker import MLflow

TRACKING: dict[str, type[Tracking]] = {"none": NoTracking, "mlflow": MLflow}

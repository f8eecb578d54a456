"""The settings of a sweep: the base run, the search space, the budget and the search."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from cluster.cli import unknown
from train.config import Run
from train.core.settings import one_of
from train.run_files import read_run, read_table
from train.tracking import TRACKING
from train.tracking.base import NoTracking, Tracking
from tune.settings import SweepSettings
from tune.space.draws import check, corners, override
from tune.space.points import Point, point
from tune.space.ranges import Range, parse
from tune.subjects import SUBJECTS
from tune.subjects.base import Subject


def _space(table: dict[str, Any]) -> dict[str, Any]:
    parse(table)
    return table


class Sweep(SweepSettings):
    """Many trials of one run.

    Attributes:
        tracking: tracker that logs each trial, such as MLflow.
        start: overrides of trials that are tried first.
        space: search space, see `tune.space.ranges`.
    """

    tracking: Annotated[Tracking, one_of("tracking", TRACKING)] = NoTracking()
    start: tuple[dict[str, Any], ...] = ()
    space: Annotated[dict[str, Any], AfterValidator(_space)]

    @model_validator(mode="after")
    def _has_a_budget(self) -> "Sweep":
        if self.trials is None and self.hours is None:
            raise ValueError("no budget; set trials, hours, or both")
        return self

    @model_validator(mode="after")
    def _metrics_are_reported(self) -> "Sweep":
        known = self.subject.metrics
        for name in self.metrics:
            if name not in known:
                raise ValueError(f"metrics: {unknown('metric', name, list(known))}")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics: {self.metrics[0]} is there twice; name one, or two")
        return self

    @property
    def subject(self) -> Subject:
        """Return the subject that the keys of the space belong to."""
        return SUBJECTS[subject_of({key for drawn in corners(self.ranges()) for key in drawn})]

    def ranges(self) -> dict[str, Range]:
        """Return the space, parsed."""
        return parse(self.space)

    def directions(self) -> dict[str, Literal["max", "min"]]:
        """Return the metrics that trials are compared by, the deciding one first."""
        known = self.subject.metrics
        return {name: known[name] for name in self.metrics or self.subject.default}

    def base(self) -> Run:
        """Read the base run, with the sweep's storage.

        Raises:
            ValueError: it does not know a key of the space, or a value at the end of a range or in
                `start`.
        """
        run = read_run(self.run)
        run = run.model_copy(update={"storage": self.storage or run.storage})
        check(self.ranges(), run, self.subject.keys, self.subject.fixed)
        self.points(run)
        return run

    def points(self, run: Run) -> list[Point]:
        """Return `start` as points of the space, by Optuna's names.

        Raises:
            ValueError: no draw of the space gives one of them.
        """
        points = [point(self.ranges(), run, override(run, given)) for given in self.start]
        for given, params in zip(self.start, points, strict=True):
            if params is None:
                raise ValueError(f"start: {given} is outside of the space; widen it, or leave it")
        return [params for params in points if params is not None]


def read_sweep(source: str, flags: Mapping[str, Any] | None = None) -> Sweep:
    """Read a sweep from a TOML file or a preset by its name; flags override it.

    Raises:
        FileNotFoundError: there is neither such a file nor such a preset.
        ValueError: not TOML, or a key or value that is not known.
    """
    table = read_table(source, "tune") | dict(flags or {})
    if "data" in table and "run" not in table:
        raise ValueError(f"{source} is a run, not a sweep: python -m train fit {source}")
    return Sweep.model_validate(table)


def subject_of(keys: Collection[str]) -> str:
    """Return the name of the subject that a space with these keys varies.

    Raises:
        ValueError: the keys belong to several of them.
    """
    tables = {key.split(".")[0] for key in keys}
    subjects = sorted(name for name, one in SUBJECTS.items() if tables & set(one.keys))
    if len(subjects) > 1:
        raise ValueError(
            f"space: a sweep varies one of {', '.join(SUBJECTS)}, and this has keys of "
            f"{' and '.join(subjects)}; make a sweep of each, one after the other"
        )
    return subjects[0] if subjects else "towers"

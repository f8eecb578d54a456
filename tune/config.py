"""The settings of a sweep: the base run, the search space, the budget and the search."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cluster.cli import unknown
from train.config import Run
from train.core.settings import Settings, one_of
from train.run_files import read_run, read_table
from train.tracking import TRACKING
from train.tracking.base import NoTracking, Tracking
from tune.space.draws import check, corners, override
from tune.space.points import Point, point
from tune.space.ranges import Range, parse
from tune.subjects import SUBJECTS
from tune.subjects.base import Subject


def _space(table: dict[str, Any]) -> dict[str, Any]:
    parse(table)
    return table


def _words(given: Any) -> Any:
    return given.replace(",", " ").split() if isinstance(given, str) else given


class Sweep(Settings):
    """Many trials of one run.

    Attributes:
        name: of the sweep; its files lie in `storage/name`.
        run: path of a run file, or the name of a preset of `train`.
        metrics: one or two that trials are compared by, the first one decides; by default
            "ndcg", the NDCG@10 over the whole catalogue, without seen items, of the validation
            holdout (never of the test), for sources the recall of the candidates of these
            users, and for an index its recall and its speed.
        trials: number of trials, the run as it is included; no limit where only `hours` are given.
        hours: after which no trial goes on.
        trials_at_once: maximum number of concurrent trials.
        cpus: of each trial, which has as many threads.
        gpus: of each trial; by default one where `run` asks for it.
        seeds: number of seeds each trial is trained with; the mean counts.
        search: "tpe" learns from the trials before (Bergstra et al. 2011), "random" does not.
        scheduler: "asha" stops bad trials early (Li et al. 2020), "none" lets all end.
        grace_epochs: epochs that every trial gets before it can be stopped as a bad one.
        seed: of the search; trials train with the run's own seed and those after it.
        storage: folder or URI of the sweep and of the winner's bundle; by default that of the run.
        optuna: URL of the database that Optuna keeps its study in; by default a SQLite file
            beside the trials, where these lie in a folder.
        tracking: tracker that logs each trial, such as MLflow.
        start: overrides of trials that are tried first.
        after: folder of an earlier sweep, whose trials warm-start the search.
        space: search space, see `tune.space.ranges`.
    """

    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    run: str
    metrics: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(default=(), max_length=2)
    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    trials_at_once: int = Field(default=2, ge=1)
    cpus: float = Field(default=1, gt=0)
    gpus: float | None = Field(default=None, ge=0)
    seeds: int = Field(default=1, ge=1)
    search: Literal["tpe", "random"] = "tpe"
    scheduler: Literal["asha", "none"] = "asha"
    grace_epochs: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    storage: str | None = None
    optuna: str | None = None
    tracking: Annotated[Tracking, one_of("tracking", TRACKING)] = NoTracking()
    start: tuple[dict[str, Any], ...] = ()
    after: str | None = None
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
    return Sweep.model_validate(read_table(source, "tune") | dict(flags or {}))


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

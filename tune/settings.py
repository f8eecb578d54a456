"""The settings of a sweep that flags can give: what is tried, for how long, and how it is searched.

They import nothing that takes long, so that `python -m tune --help` answers at once.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from train.core.settings import FolderName, Settings


def _words(given: Any) -> Any:
    return given.replace(",", " ").split() if isinstance(given, str) else given


class SweepSettings(Settings):
    """The budget and the search of a sweep.

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
        after: folder of an earlier sweep, whose trials warm-start the search.
    """

    name: FolderName = "sweep"
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
    after: str | None = None

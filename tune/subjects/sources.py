"""Candidate sources and their quotas: a trial merges them and measures the candidates."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded
from train.data.snapshot import Holdout, some_users
from train.data.splits.base import Folds
from train.index.candidates import Candidates
from train.metrics.ranking import per_user
from train.picks import pick
from train.recommender.recommender import STAGE_1, Recommender
from train.recommender.requests import of_known_users
from train.recommender.retrieval import find_candidates
from train.sources.base import SourceSettings
from train.sources.fitting import fit_sources, suitable
from train.steps import MEASURED_USERS, reranker_holdout, selected, stage_one
from train.trainer.checkpoint import State
from train.trainer.job import Worker
from tune.subjects.base import Subject, Values, milliseconds, without_baselines

# Users whose candidates are in memory at a time.
BLOCK = 512
# The cut of the NDCG, as of every other subject.
CUT = 10


@dataclass(frozen=True)
class Stage:
    """What all trials have in common.

    Attributes:
        towers: stage 1 of the run's towers alone.
        holdout: the validation users that candidates are measured on.
        picked: the run's sources, with what nobody set picked on these users.
    """

    towers: Recommender
    holdout: Holdout
    picked: tuple[SourceSettings, ...]


def _stage(run: Run, data: Encoded, folds: Folds, home: str) -> Stage:
    model, holdout = selected(home, run, data, folds)
    users = reranker_holdout(run, holdout)
    towers = stage_one(run, data, holdout.known, model)
    # Trials search and do not encode: the towers themselves stay here.
    towers = replace(towers, encode=None, served=STAGE_1)
    sources = pick(without_baselines(run), users).sources
    return Stage(towers, some_users(users, MEASURED_USERS), sources)


def _measure(
    stage: Stage, run: Run, asked: Collection[str], worker: Worker, _state: State | None
) -> tuple[Values, Any]:
    recommender, holdout = _recommender(stage, run), stage.holdout
    count = recommender.candidates
    found = np.concatenate([part.items for part in _candidates(recommender, holdout, count)])
    values = {
        "recall": float(np.nanmean(per_user(found, holdout.relevant, count)["recall"])),
        "ndcg": float(np.nanmean(per_user(found, holdout.relevant, CUT)["ndcg"])),
    }
    if "milliseconds" in asked:
        values["milliseconds"] = _request(recommender, holdout)
    return {name: value for name, value in values.items() if name in asked}, None


def _users(stage: Stage, run: Run, _kept: Any) -> Array:
    """Return the NDCG@10 of each user's candidates in the order of stage 1, `[V]`."""
    recommender, holdout = _recommender(stage, run), stage.holdout
    parts = _candidates(recommender, holdout, recommender.candidates)
    found = np.concatenate([part.items for part in parts])
    return np.asarray(per_user(found, holdout.relevant, CUT)["ndcg"])


def _recommender(stage: Stage, run: Run) -> Recommender:
    """Return stage 1 of the sources of a run, all of them: none is left out."""
    holdout, options = stage.holdout, (run.evaluation.recent_days, run.evaluation.k, run.seed)
    sources = suitable(run.sources, holdout.known, named=True)
    tuned = [_picked(stage, source).tuned(holdout, *options) for source in sources]
    return replace(
        stage.towers,
        sources=fit_sources(tuned, holdout.known, run.seed),
        quotas={source.name: source.quota for source in tuned},
    )


def _picked(stage: Stage, source: SourceSettings) -> SourceSettings:
    """Return a source with what was picked for the run's own of its name, where it sets nothing."""
    same = next((one for one in stage.picked if one.name == source.name), source)
    unset = {key for key, value in source if value is None and key != "quota"}
    return source.model_copy(update={key: getattr(same, key) for key in unset})


def _candidates(recommender: Recommender, holdout: Holdout, count: int) -> Iterator[Candidates]:
    for start in range(0, len(holdout.users), BLOCK):
        users = holdout.users[start : start + BLOCK]
        queries, vectors = of_known_users(recommender, users), recommender.user_vectors[users]
        yield find_candidates(recommender, queries, vectors, np.full(len(users), count))


def _request(recommender: Recommender, holdout: Holdout, requests: int = 50) -> float:
    """Return the median milliseconds in which the candidates of one user are found."""

    def ask(row: int) -> None:
        list(_candidates(recommender, holdout.take(np.array([row])), recommender.candidates))

    return milliseconds(ask, range(min(requests, len(holdout.users))))


SOURCES = Subject(
    name="sources",
    keys=("sources",),
    fixed=(),
    metrics={"recall": "max", "ndcg": "max", "milliseconds": "min"},
    default=("recall",),
    prepare=_stage,
    measure=_measure,
    users=_users,
)

"""Steps that runs and sweeps share: prepare, snapshots, towers, both stages."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cluster import storage
from cluster.cpus import available_cpus
from train.adapt import adapted, check_asked, tell_of_times
from train.config import Run
from train.core.ragged import Array
from train.data.encoded import Encoded, encode
from train.data.profile import profile, profile_lines
from train.data.repeats import Repeats
from train.data.snapshot import (
    Holdout,
    Snapshot,
    like_test,
    recent_windows,
    snapshot,
    some_users,
    validation_holdout,
    with_asked,
)
from train.data.splits.base import LEFT_OUT, TEST, TRAIN, VALIDATION, Folds
from train.data.splits.window import sentence
from train.index.build import build_index, check_kind
from train.recommender.gate import earning_sources
from train.recommender.recommender import Recommender
from train.recommender.stage_two import StageTwo, fit_stage_two
from train.recommender.training_rows import MIN_GROUPS
from train.rerankers.features import names_of
from train.sources.base import SourceSettings
from train.sources.entries import TowerSource
from train.sources.fitting import fit_sources
from train.towers.encode import encode_catalogue, encode_users
from train.towers.model import TwoTowerModel
from train.tracking.base import Tracker
from train.trainer.checkpoint import PhaseResult
from train.trainer.job import Job, Validation
from train.trainer.workers import train_here, train_on_ray

logger = logging.getLogger(__name__)

# Users that a source's marginal recall is measured on: its interval is narrow enough by then.
MEASURED_USERS = 2000
# Users of a validation window below which there is a warning.
FEW_USERS = 20


@dataclass(frozen=True)
class Fitted:
    """Trained towers, and how that went: a row of `curve` an epoch, `epoch` the best one."""

    model: TwoTowerModel
    epoch: int
    curve: list[dict[str, Any]]


def prepare(run: Run) -> tuple[Encoded, Folds]:
    """Load, check, encode and split the data of a run, which is `adapted` to them.

    Raises:
        ValueError: the data, or what the tower or a baseline cannot be fitted to.
    """
    tables = run.data.load()
    data = encode(tables)
    for line in profile_lines(profile(data)):
        logger.info("%s", line)
    asked, run = run, adapted(run, data)
    parts = run.train, run.tower, run.linear_score, *run.evaluation.baselines
    if any(getattr(part, "weighted", False) for part in parts):
        positive = data.interactions.take(data.interactions.positive)
        positive.relative_weight()  # refuses here what would fail in training
    folds = run.split.folds(data.interactions, len(data.users), len(data.items), run.seen)
    if folds.asked(TEST).any():
        check_asked(run)
    # Baselines are fitted last; what they refuse is refused before any tower is trained.
    item, features = data.interactions.item, data.item_features
    before = (folds.fold == TRAIN) | (folds.fold == VALIDATION)
    first, warm = (len(np.unique(item[of])) for of in (folds.fold == TRAIN, before))
    run.tower.check(first, features)
    check_kind(run.index)
    if run.catalogue == "all":
        _check_cold(data, folds, before)
    for baseline in run.evaluation.baselines:
        baseline.check(warm, features)
    for reranker in run.rerankers():
        reranker.check(_feature_names(run, data))
    counts = np.bincount(folds.fold[folds.fold > LEFT_OUT], minlength=3)
    logger.info(
        "%s: %s interactions, %s users, %s items; train %s, validation %s, test %s",
        getattr(run.data, "name", "data"),
        *(f"{n:,}" for n in (len(data.interactions), len(data.users), len(data.items), *counts)),
    )
    logger.info("%s", sentence(folds.window.record()))
    tell_of_times(asked, run, data)
    return data, folds


def _check_cold(data: Encoded, folds: Folds, before: Array) -> None:
    """Raise ValueError where the test's new items all look alike, warn where many do.

    What ranks them by their attributes would put them in an order of chance.
    """
    item = data.interactions.item
    new = np.setdiff1d(item[folds.fold == TEST], item[before])
    kinds = data.item_features.distinct(new) if len(new) > 1 else len(new)
    said = (
        f"the test has {len(new):,} items without an earlier interaction, and their attributes "
        f"tell {kinds:,} of them apart"
    )
    if len(new) > 1 and kinds == 1:
        raise ValueError(
            f"{said}: their order would be chance. Give items other attributes in "
            "data.item_columns, or take a split that tests items with interactions"
        )
    if kinds < len(new) / 2:
        logger.warning("%s: equal ones are in an order of chance", said)


def earlier_fold(run: Run, data: Encoded, steps: int) -> tuple[Run, Encoded, Folds]:
    """Return the run, its data and its folds at a cut that is `steps` tests earlier.

    Raises:
        ValueError: there is no such cut, or a part before or after it is empty.
    """
    split, there = run.split.earlier(data.interactions, steps)
    past = replace(data, interactions=data.interactions.take(there))
    try:
        folds = split.folds(past.interactions, len(data.users), len(data.items), run.seen)
    except ValueError as error:
        count = run.evaluation.folds
        raise ValueError(f"evaluation.folds = {count}, fold {steps + 1}: {error}") from error
    evaluation = run.evaluation.model_copy(update={"folds": 1})
    changes = {"split": split, "final_fit": "before_test", "evaluation": evaluation}
    return run.model_copy(update=changes), past, folds


def _feature_names(run: Run, data: Encoded) -> tuple[str, ...]:
    days = recent_windows(run.evaluation.recent_days, data.interactions.timed)
    sources = tuple(source.name for source in run.sources) if len(run.sources) > 1 else ()
    linear = run.linear_score.rank > 0
    repeats = run.seen != "exclude"
    return names_of(data.item_features, data.user_features, days, linear, sources, repeats)


def select_holdout(run: Run, data: Encoded, folds: Folds) -> Holdout:
    """Return the validation users of [t1, t2), with the snapshot before t1.

    Raises:
        ValueError: there are none.
    """
    known = _known(run, data, folds.before_validation, folds.t1)
    asked = with_asked(known, data, folds.asked(VALIDATION))
    holdout = validation_holdout(data, folds, asked)
    _check_users(holdout, data, folds)
    return holdout


def _check_users(holdout: Holdout, data: Encoded, folds: Folds) -> None:
    """Raise ValueError where nobody of the validation window can be ranked for, warn of few."""
    window = data.interactions.take(folds.fold == VALIDATION)
    users = len(np.unique(window.user))
    if not len(holdout.users):
        raise ValueError(
            f"the validation window has {len(window):,} interactions of {users:,} users, and 0 "
            "users can be ranked for: none of them has both an interaction before it and an item "
            "in it that was there before. What is chosen by it would be chance; take another cut "
            "(split.validation_quantile or validation_at), or another split: leave_last, random"
        )
    if len(holdout.users) < FEW_USERS:
        logger.warning(
            "the validation window has %d users that can be ranked for: what is chosen by them is "
            "much by chance",
            len(holdout.users),
        )


def refit_snapshot(run: Run, data: Encoded, folds: Folds) -> Snapshot:
    """Return the snapshot before t2, which the towers that are measured learn from."""
    known = _known(run, data, folds.before_test, folds.t2)
    return with_asked(known, data, folds.asked(TEST))


def final_snapshot(run: Run, data: Encoded) -> Snapshot:
    """Return the snapshot of everything, which the towers that are served learn from."""
    everything = np.ones(len(data.interactions), dtype=bool)
    return _known(run, data, everything, int(data.interactions.timestamp.max()) + 1)


def _known(run: Run, data: Encoded, known: Array, as_of: int) -> Snapshot:
    options = run.evaluation.recent_days, run.catalogue == "all", run.linear_score
    return snapshot(data, known, as_of, *options)


def selected(home: str, run: Run, data: Encoded, folds: Folds) -> tuple[TwoTowerModel, Holdout]:
    """Train towers on interactions before t1, stopped by the validation users, or read them.

    Args:
        home: of the run; the same one finds its checkpoints again.
        run: with the towers.
        data: as `prepare` gives it.
        folds: likewise.

    Returns:
        the towers, and the validation users.
    """
    holdout = select_holdout(run, data, folds)
    run = settled(run, holdout.known)
    towers = fit_towers(home, run, {"select": holdout.known}, holdout, Tracker())
    return towers["select"].model, holdout


def stage_one(
    run: Run,
    data: Encoded,
    known: Snapshot,
    model: TwoTowerModel,
    sources: Sequence[SourceSettings] = (TowerSource(),),
) -> Recommender:
    """Return stage 1 over a snapshot: users and items encoded, items indexed, sources fitted."""
    users = np.arange(len(known.histories))
    vectors = encode_users(model, users, known.histories), encode_catalogue(model)
    head = None if model.head is None else model.head.trained()
    return Recommender.over(
        data,
        known,
        vectors,
        build_index(
            run.index,
            vectors[1],
            known.catalogue,
            head,
            run.seed,
            vectors[0][known.inputs.warm_users],
            run.candidates,
        ),
        encode=partial(encode_users, model),
        towers_read_attributes=run.tower.user_attributes,
        added=run.tower.added,
        candidates=run.candidates,
        seen=run.seen,
        repeats=_repeats(run, known),
        sources=fit_sources(sources, known, run.seed),
        quotas={source.name: source.quota for source in sources},
    )


def _repeats(run: Run, known: Snapshot) -> Repeats | None:
    if run.seen == "exclude":
        return None
    return Repeats.of(known.interactions, len(known.histories), len(known.catalogue), known.as_of)


def reranker_holdout(run: Run, holdout: Holdout) -> Holdout:
    """Return the users whose candidates a reranker learns from: like the test's, if some are."""
    return like_test(holdout, run.split, MIN_GROUPS)


def merge_sources(
    run: Run, selected: Recommender, holdout: Holdout
) -> tuple[Recommender, Mapping[str, Any]]:
    """Return stage 1 with the sources that earn their place, and what each contributes."""
    if len(selected.quotas) == 1:
        return selected, {}
    some = some_users(reranker_holdout(run, holdout), MEASURED_USERS)
    kept, facts = earning_sources(selected, some, run.evaluation.k)
    for name, of in facts.items():
        logger.info(
            "source %s: recall %.4f, marginal %.4f, marginal NDCG@%d %.4f%s",
            name,
            of["recall"]["mean"],
            of["marginal"]["mean"],
            run.evaluation.k,
            of["order"]["mean"],
            "" if of["kept"] else "; left out",
        )
    return with_sources(selected, kept), facts


def with_sources(recommender: Recommender, names: Collection[str]) -> Recommender:
    """Return stage 1 with some of its sources."""
    return replace(
        recommender,
        sources={name: of for name, of in recommender.sources.items() if name in names},
        quotas={name: of for name, of in recommender.quotas.items() if name in names},
    )


def stage_two(run: Run, selected: Recommender, holdout: Holdout) -> StageTwo:
    """Fit the run's reranker, if it has one, and choose what is served, on validation users."""
    holdout = reranker_holdout(run, holdout)
    logger.info("rerank: candidates of %s users", f"{len(holdout.users):,}")
    second = fit_stage_two(run.rerankers(), selected, holdout, run.seed, available_cpus())
    logger.info("rerank: %s", _told(second.facts))
    for row in second.gate.get("ladder", ()):
        logger.info("gate: %s NDCG@%d %.4f", row["system"], second.gate["k"], row["ndcg"])
    logger.info("gate: %s is served", second.gate["served"])
    return second


def _told(facts: Mapping[str, Any]) -> str:
    """Return what a reranker reached on the validation users, or why there is none, in words."""
    if "gain" not in facts:
        return f"none: {facts.get('reason', '')}"
    gain = f"{facts['gain']:.4f} [{facts['low']:.4f}, {facts['high']:.4f}]"
    return (
        f"{facts['name']} NDCG@10 {facts['ndcg']:.4f}, stage 1 {facts['ndcg_stage1']:.4f}, gain "
        f"{gain} on {facts['queries']:,} users"
    )


def on_ray(run: Run) -> bool:
    """Whether workers train the towers: those in closed form are fitted here."""
    return run.train.workers > 0 and not run.tower.closed_form()


def fit_towers(
    home: str, run: Run, phases: Mapping[str, Snapshot], holdout: Holdout, tracker: Tracker
) -> dict[str, Fitted]:
    """Train the towers of every phase, or read those of phases that were finished before.

    Args:
        home: of the run; its checkpoints lie in `training`.
        run: with the towers.
        phases: the snapshot that each learns from; `select` comes first.
        holdout: stops the training of `select`.
        tracker: is told of every epoch.
    """
    jobs = {
        phase: tower_job(run, known, holdout if phase == "select" else None)
        for phase, known in phases.items()
    }
    trained = train_on_ray if on_ray(run) else train_here
    states = trained(jobs, storage.join(home, "training"), tracker.epoch)
    for phase, state in states.items():
        tracker.curve(phase, state["curve"])
    return {phase: _fitted_towers(run, jobs[phase], state) for phase, state in states.items()}


def settled(run: Run, known: Snapshot) -> Run:
    """Return the run with its training's steps, epochs and rate, by the examples of a snapshot."""
    if run.tower.closed_form():
        return run
    examples = run.tower.count_examples(known.interactions, run.train.examples)
    training = run.train.settled(examples)
    logger.info(
        "train: %s examples in batches of %s, learning rate %g, weight decay %g, each seen at most "
        "%s times",
        f"{examples:,}",
        f"{(training.batch_size or 0) * max(1, training.workers):,}",
        training.learning_rate,
        training.weight_decay,
        training.epochs,
    )
    return run.model_copy(update={"train": training})


def _fitted_towers(run: Run, job: Job, state: PhaseResult) -> Fitted:
    model = run.tower.build(job.inputs)
    model.load_state_dict(state["best"]["weights"])
    model.eval()
    return Fitted(model, state["best"]["epoch"], state["curve"])


def tower_job(run: Run, known: Snapshot, holdout: Holdout | None = None) -> Job:
    """Return the training job of the run's towers on a snapshot.

    Args:
        run: with the towers, their loss and how they are trained.
        known: its interactions are learned from.
        holdout: stops the training; without one there is no validation.
    """
    validation = None
    if holdout is not None:
        some = some_users(like_test(holdout, run.split), run.train.validation_users)
        histories = known.histories.take(some.users)
        hidden = some.hidden if len(some.hidden.values) else None
        ranked = known.catalogue, holdout.seen, hidden
        validation = Validation(some.users, histories, some.relevant, *ranked)
    return Job(
        tower=run.tower,
        loss=run.loss,
        training=run.train,
        seed=run.seed,
        inputs=known.inputs,
        interactions=known.interactions,
        validation=validation,
    )

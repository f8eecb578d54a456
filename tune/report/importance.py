"""How much of the difference between a sweep's trials each setting explains, by Optuna."""

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.report.records import Records, in_state, is_number, shown, values, varied

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

TRIALS = 4
# A tree of all the splits that there are takes minutes for some hundred trials, and says no more.
TREES, DEPTH = 32, 5
# The trees are drawn; pages of the same records are the same.
SEED = 0


def why_not(records: Records, metric: str) -> str | None:
    """Return why the importance of settings cannot be told from these trials; None if it can."""
    finished = int(in_state(records, "finished").sum())
    if finished < TRIALS:
        return f"it takes at least {TRIALS} finished trials, and there are {finished}"
    if not varied(_measured(records, metric)):
        return "no setting had more than one value"
    if len(set(values(_measured(records, metric), metric).tolist())) < 2:
        return "all trials reached the same value"
    return None


def importances(records: Records, metric: str, logs: Set[str] = frozenset()) -> dict[str, float]:
    """Return the share of every setting that varied, the largest first; none where all are 0.

    By fANOVA (Hutter et al., 2014), over the trials that were stopped early too: that they were
    among the worse ones says much about their settings.

    Args:
        records: of the trials.
        metric: what they are compared by.
        logs: the settings that are compared by their logarithms.
    """
    from optuna.importance import FanovaImportanceEvaluator

    study = _study(_measured(records, metric), metric, logs)
    found = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=SEED).evaluate(study)
    total = sum(found.values())
    shares = {name: float(share / total) for name, share in found.items() if share > 0}
    return dict(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))


def _measured(records: Records, metric: str) -> Records:
    numbers = values(records, metric)
    return [r for r, x in zip(records, numbers, strict=True) if r["params"] and not np.isnan(x)]


def _study(records: Records, metric: str, logs: Set[str]) -> Any:
    import optuna

    params = _filled(records)
    ranges = {name: _range([p[name] for p in params], name in logs) for name in varied(records)}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(level)
    found = values(records, metric)
    study.add_trials([_trial(p, x, ranges) for p, x in zip(params, found, strict=True)])
    return study


def _filled(records: Records) -> list[dict[str, Any]]:
    """Return the settings of each trial, and usual values of those that it does not have.

    fANOVA compares trials of the same settings. A value of its own for "does not have it" would
    tell it which loss a trial chose, and take from the loss what is the loss's.
    """
    names = varied(records)
    had = {name: [r["params"][name] for r in records if name in r["params"]] for name in names}
    usual = {name: _usual(found) for name, found in had.items()}
    return [{name: r["params"].get(name, usual[name]) for name in names} for r in records]


def _usual(found: Sequence[Any]) -> Any:
    """Return the middle one of numbers, the most frequent one of other values."""
    if all(map(is_number, found)):
        return sorted(found)[len(found) // 2]
    texts = [shown(value) for value in found]
    return found[texts.index(max(texts, key=texts.count))]


def _range(found: Sequence[Any], log: bool) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not all(map(is_number, found)):
        return CategoricalDistribution(sorted({shown(value) for value in found}))
    return FloatDistribution(min(found), max(found), log=log and min(found) > 0)


def _trial(
    params: Mapping[str, Any], value: float, ranges: Mapping[str, "BaseDistribution"]
) -> "FrozenTrial":
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    drawn = {
        name: float(params[name]) if isinstance(range_, FloatDistribution) else shown(params[name])
        for name, range_ in ranges.items()
    }
    return create_trial(params=drawn, distributions=dict(ranges), value=float(value))

"""Importance of a sweep's settings (fANOVA), by Optuna."""

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.report.records import Records, in_state, is_number, shown, values, varied

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

TRIALS = 4
# Trees of unlimited depth take minutes for some hundred trials, and shares stay the same.
TREES, DEPTH = 32, 5
# Trees are random; pages of the same records are the same.
SEED = 0


def why_not(records: Records, metric: str) -> str | None:
    """Return why these trials cannot give the importance of settings; None if they can."""
    finished = int(in_state(records, "finished").sum())
    if finished < TRIALS:
        return f"it takes at least {TRIALS} finished trials, and there are {finished}"
    if not varied(_measured(records, metric)):
        return "no setting had more than one value"
    if len(set(values(_measured(records, metric), metric).tolist())) < 2:
        return "all trials reached the same value"
    return None


def importances(records: Records, metric: str, logs: Set[str] = frozenset()) -> dict[str, float]:
    """Return the share of variance that each varied setting explains, largest first; none if all 0.

    By fANOVA (Hutter et al., 2014), over the trials that were stopped early too: that they were
    among the worse ones says much about their settings.

    Args:
        records: of the trials.
        metric: what they are compared by.
        logs: the settings that are compared by their logarithms.
    """
    from optuna.importance import FanovaImportanceEvaluator

    study = _study(_measured(records, metric), metric, logs)
    variances = FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=SEED).evaluate(study)
    total = sum(variances.values())
    shares = {name: float(part / total) for name, part in variances.items() if part > 0}
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
    numbers = values(records, metric)
    study.add_trials([_trial(p, x, ranges) for p, x in zip(params, numbers, strict=True)])
    return study


def _filled(records: Records) -> list[dict[str, Any]]:
    """Return the settings of each trial, missing ones imputed by the median or the mode.

    fANOVA compares trials of the same settings. A value of its own for a missing setting would
    reveal which loss a trial chose, and take over the loss's importance.
    """
    names = varied(records)
    had = {name: [r["params"][name] for r in records if name in r["params"]] for name in names}
    usual = {name: _usual(column) for name, column in had.items()}
    return [{name: r["params"].get(name, usual[name]) for name in names} for r in records]


def _usual(column: Sequence[Any]) -> Any:
    """Return the (upper) median of numbers, the mode of other values."""
    if all(map(is_number, column)):
        return sorted(column)[len(column) // 2]
    texts = [shown(value) for value in column]
    return column[texts.index(max(texts, key=texts.count))]


def _range(column: Sequence[Any], log: bool) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not all(map(is_number, column)):
        return CategoricalDistribution(sorted({shown(value) for value in column}))
    return FloatDistribution(min(column), max(column), log=log and min(column) > 0)


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

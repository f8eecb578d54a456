"""The table of a bundle that is already written."""

from collections.abc import Mapping
from typing import Any

from train import picks
from train.bundle.bundle import Bundle
from train.config import Run
from train.data.encoded import Encoded, encode
from train.data.snapshot import Holdout, fingerprint, held_out, snapshot, with_asked
from train.data.splits.base import TEST
from train.evaluation.evaluate import evaluate
from train.evaluation.new_users import measure_new_users
from train.evaluation.rules import cost_of_rules


def measure(bundle: Bundle) -> Mapping[str, Any]:
    """Return the report of `evaluate` for a bundle, from its own vectors, index and reranker.

    A bundle whose towers were fitted on everything has seen its test; for it this is what was
    measured, and recorded, before that final fit.

    Raises:
        ValueError: the data is no longer what the bundle was made from.
    """
    run = _run(bundle)
    recorded: Mapping[str, Any] = bundle.manifest["metrics"]
    if run.final_fit == "everything":
        return recorded
    data, holdout = _test(bundle, run)
    settings = picks.recorded(run, bundle.manifest).evaluation
    report = evaluate(bundle.recommender, holdout, settings, run.seed).report
    # Earlier folds were measured with fits of their own, which the bundle does not hold.
    window = run.split.cut(data.interactions)[0] == TEST
    report["new_users"] = measure_new_users(
        bundle.recommender, data.interactions, window, settings.k, run.seed
    )
    return report | {name: recorded[name] for name in ("folds",) if name in recorded}


def measure_rules(bundle: Bundle, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return what rules cost on a bundle's test; see `cost_of_rules`.

    Raises:
        ValueError: the bundle was fitted on its test, or the data is no longer what it was made
            from.
    """
    run = _run(bundle)
    if run.final_fit == "everything":
        raise ValueError(
            "--rules: this bundle was fitted on everything, its test too; measure one of a run "
            'with final_fit = "before_test"'
        )
    _, holdout = _test(bundle, run)
    return cost_of_rules(bundle.recommender, holdout, rules, run.evaluation.k, run.seed)


def _run(bundle: Bundle) -> Run:
    config = bundle.manifest["config"]
    # Before format 7 the rows of the table ordered interactions of one time.
    return Run.model_validate(config | {"data": {"ties": "rows", **config["data"]}})


def _test(bundle: Bundle, run: Run) -> tuple[Encoded, Holdout]:
    """Return the data that a bundle was made from, and its test."""
    data = encode(run.data.load())
    if fingerprint(data) != bundle.manifest["data"]["sha256"]:
        raise ValueError(
            f"the data of this bundle ({run.data.model_dump(mode='json')}) has changed since it "
            "was made; what was measured then is in its manifest.json under metrics"
        )
    folds = run.split.folds(data.interactions, len(data.users), len(data.items), run.seen)
    options = run.evaluation.recent_days, run.catalogue == "all", run.linear_score
    known = snapshot(data, folds.before_test, folds.t2, *options)
    known = with_asked(known, data, folds.asked(TEST))
    return data, held_out(data, folds, known)

"""The table of a bundle that is already written."""

from collections.abc import Mapping
from typing import Any

from train import picks
from train.bundle.bundle import Bundle
from train.config import Run
from train.data.encoded import encode
from train.data.snapshot import fingerprint, held_out, snapshot, with_asked
from train.data.splits.base import TEST
from train.evaluation.evaluate import evaluate
from train.evaluation.new_users import measure_new_users


def measure(bundle: Bundle) -> Mapping[str, Any]:
    """Return the report of `evaluate` for a bundle, from its own vectors, index and reranker.

    A bundle whose towers were fitted on everything has seen its test; for it this is what was
    measured, and recorded, before that final fit.

    Raises:
        ValueError: the data is no longer what the bundle was made from.
    """
    config = bundle.manifest["config"]
    # Before format 7 the rows of the table ordered interactions of one time.
    run = Run.model_validate(config | {"data": {"ties": "rows", **config["data"]}})
    recorded: Mapping[str, Any] = bundle.manifest["metrics"]
    if run.final_fit == "everything":
        return recorded
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
    holdout = held_out(data, folds, known)
    settings = picks.recorded(run, bundle.manifest).evaluation
    report = evaluate(bundle.recommender, holdout, settings, run.seed).report
    # Earlier folds were measured with fits of their own, which the bundle does not hold.
    window = run.split.cut(data.interactions)[0] == TEST
    report["new_users"] = measure_new_users(
        bundle.recommender, data.interactions, window, settings.k, run.seed
    )
    return report | {name: recorded[name] for name in ("folds",) if name in recorded}

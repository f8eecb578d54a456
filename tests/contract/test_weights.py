"""Weights of interactions reach every loss, as the formulas say; over `LOSSES`.

With `g_i` the gradient of what interaction i adds, N interactions, P of them positives of the step,
and weights `w` over their mean, the gradient of a step over everything is
`sum_i (w_i / mean(w)) g_i / P`. With all weight on one interaction it is `(N / P) g_i`, so that
every other one follows from these N: `g(w) = sum_i w_i g(one-hot i) / sum_i w_i`, and so does the
loss. Negatives do not depend on weights, only on how often an item was taken.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.recording import record
from tests.training import make_job, plain_inputs
from train.core.ragged import Array
from train.core.schema import Interactions
from train.losses import LOSSES
from train.losses.base import Loss
from train.losses.pairwise import BPR, Triplet
from train.towers.history_transformer import HistoryTransformer
from train.towers.ncf import NCF
from train.towers.two_tower import TwoTower
from train.trainer.job import Job

DAY = 86_400
USERS = np.repeat(np.arange(4, dtype=np.int32), 3)
ITEMS = np.array([0, 1, 2, 1, 2, 3, 4, 0, 5, 6, 1, 0], np.int32)
N = len(USERS)
AGES = np.array([40, 20, 0, 30, 10, 5, 25, 15, 1, 8, 4, 2])
"""Days before the newest."""


def interactions(weight: Array) -> Interactions:
    time = (100 - AGES) * DAY
    return Interactions(USERS, ITEMS, time.astype(np.int64), weight.astype(np.float32))


def job_for(loss: Loss, kind: str, weight: Array, **changes: Any) -> Job:
    """Return one step over all interactions, as pairs, as users or as windows."""
    score = "dot" if loss.needs("dot") is None else "cosine"
    towers = {
        "interactions": TwoTower.model_validate({"width": 4, "history": 0, "score": score}),
        "pairs": NCF(width=4, hidden=4),
        "windows": HistoryTransformer.model_validate(
            {"width": 4, "heads": 1, "blocks": 1, "history": 3, "dropout": 0, "score": score}
        ),
    }
    unit = "users" if kind == "users" else "interactions"
    return make_job(
        loss=loss,
        tower=towers["interactions" if kind == "users" else kind],
        inputs=plain_inputs(4, 7),
        interactions=interactions(weight),
        batch_size=N,
        epochs=1,
        examples=unit,
        **changes,
    )


WEIGHTS = {
    "equal": np.full(N, 3.0),
    "without some": np.arange(N) % 3 > 0,
    "one of them twice": 1.0 + (np.arange(N) == 5),
    "ratings": np.random.default_rng(0).integers(1, 6, N),
}


def stepped(job: Job) -> Array:
    """Return the gradient of the only step, and after it the loss, `[P + 1]`."""
    found = record(job)
    [step] = found.steps
    return np.array([*step.gradient.double().tolist(), found.state["curve"][0]["loss"]])


@cache
def each(loss: Loss, kind: str) -> Array:
    """Return what `stepped` is with all weight on one of the interactions, `[N, P + 1]`."""
    return np.array([stepped(job_for(loss, kind, one, weighted=True)) for one in np.eye(N)])


KINDS = {"interactions": LOSSES, "windows": LOSSES, "users": {}, "pairs": {}}
KINDS["users"] = {name: loss for name, loss in LOSSES.items() if not loss().in_batch}
KINDS["pairs"] = {name: loss for name, loss in LOSSES.items() if loss().needs("pair") is None}
CASES = [(loss(), kind) for kind, suiting in KINDS.items() for loss in suiting.values()]
CASES += [
    (BPR(count=3, form="sigmoid"), "interactions"),
    (BPR(sampling="in_batch"), "interactions"),
    (BPR(count=3, shared=True), "interactions"),
    (Triplet(count=3, hardest=True), "interactions"),
]


@cache
def plain(loss: Loss, kind: str) -> Array:
    """Return what `stepped` is where nothing asks for weights, though there are some."""
    return stepped(job_for(loss, kind, WEIGHTS["ratings"]))


def tolerance(loss: Loss, kind: str) -> float:
    """Return how far sums in float32 may be from each other in another order of their terms.

    A gradient is a sum of less than 1,000 terms: N positives and their negatives, through a few
    layers of width 4. Each rounds by no more than eps of the greatest sum there is.
    """
    return float(1000 * np.finfo(np.float32).eps * np.abs(each(loss, kind)).max())


def predicted(loss: Loss, kind: str, weight: Array) -> Array:
    return np.asarray(weight @ each(loss, kind) / weight.sum())


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("loss", "kind"), CASES, ids=lambda v: getattr(v, "name", v))
def test_interactions_count_in_proportion_to_their_weight(
    loss: Loss, kind: str, weights: str
) -> None:
    weight = np.asarray(WEIGHTS[weights], np.float64)
    found = stepped(job_for(loss, kind, weight, weighted=True))
    expected, near = predicted(loss, kind, weight), tolerance(loss, kind)
    np.testing.assert_allclose(found, expected, rtol=0, atol=near)
    if weights == "equal":
        np.testing.assert_allclose(plain(loss, kind), expected, rtol=0, atol=near)
    else:
        assert np.abs(found - plain(loss, kind)).max() > 10 * near


@pytest.mark.parametrize(("loss", "kind"), CASES, ids=lambda v: getattr(v, "name", v))
def test_an_interaction_that_is_older_by_a_half_life_counts_half(loss: Loss, kind: str) -> None:
    weight = WEIGHTS["ratings"].astype(np.float64)
    recent, near = 0.5 ** (AGES / 10), tolerance(loss, kind)
    found = stepped(job_for(loss, kind, weight, half_life=10))
    np.testing.assert_allclose(found, predicted(loss, kind, recent), rtol=0, atol=near)
    both = stepped(job_for(loss, kind, weight, half_life=10, weighted=True))
    np.testing.assert_allclose(both, predicted(loss, kind, recent * weight), rtol=0, atol=near)
    assert np.abs(found - both).max() > 10 * near
    assert np.abs(found - plain(loss, kind)).max() > 10 * near


DRAWN = [loss() for loss in LOSSES.values() if not loss().in_batch]


@pytest.mark.parametrize("loss", DRAWN, ids=lambda loss: loss.name)
def test_what_has_no_weight_is_learned_nothing_of(loss: Loss) -> None:
    """A user whose interactions count nothing has no gradient; each other one has some."""
    tower = TwoTower(width=4, history=0, score="dot" if loss.needs("dot") is None else "cosine")
    job = replace(job_for(loss, "interactions", USERS != 2, weighted=True), tower=tower)
    [step] = record(job).steps
    model = tower.build(job.inputs)
    sizes = [part.numel() for part in model.parameters()]
    parts = dict(zip(dict(model.named_parameters()), step.gradient.split(sizes), strict=True))
    users = parts["user_input.id.weight"].view(-1, 4)[:4]
    assert users.abs().amax(1).bool().tolist() == [True, True, False, True]

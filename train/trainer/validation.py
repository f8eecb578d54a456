"""Validation: NDCG@k over the whole catalogue."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from train.core.ragged import Array, Ragged
from train.core.schema import Seen
from train.metrics.ranking import per_user
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.towers.model import TwoTowerModel
from train.trainer.job import Job, Worker

# Units of an NDCG of 1 that sums are rounded to. Those of 2**21 users add up to 2**53 at most, up
# to which a float64 holds every integer.
UNITS = 2**32
BLOCK = 512


def all_sum(value: Tensor, workers: int) -> Tensor:
    """Return the sum of a tensor over all workers."""
    if workers > 1:
        dist.all_reduce(value)
    return value


def validation_ndcg(model: TwoTowerModel, job: Job, worker: Worker) -> float:
    """Return the mean of `validation_scores` over the users of all workers.

    It is summed in integers, so that neither the number of workers nor the order of users decides
    which of two epochs with the same scores is the better one.
    """
    ndcg = validation_scores(model, job, worker)
    counted = ndcg[~np.isnan(ndcg)]
    sums = torch.tensor([int(np.rint(counted * UNITS).sum()), len(counted)], dtype=torch.int64)
    total, count = all_sum(sums.to(worker.device), worker.size).tolist()
    return float(total / UNITS / max(count, 1))


def validation_scores(
    model: TwoTowerModel, job: Job, worker: Worker | None = None, k: int = 10
) -> Array:
    """Return NDCG@k of this worker's validation users, each ranked over the whole catalogue.

    It is nan for a user without ground truth; one worker has all users, `[V]`.
    """
    validation, worker = job.validation, worker or Worker()
    assert validation is not None
    rows = np.arange(len(validation.users))[worker.rank :: worker.size]
    histories = validation.histories.take(rows)
    users, items = encode_users(model, validation.users[rows], histories), encode_catalogue(model)
    # What is not ranked is listed: nearly the whole catalogue where only histories are.
    size = BLOCK if validation.seen == "only" else max(len(rows), 1)
    hidden = None if validation.hidden is None else validation.hidden.take(rows)
    ranked = [
        rank_by_model(
            model,
            users[part],
            items,
            validation.catalogue,
            excluded if hidden is None else excluded.join(hidden.take(part)),
            k,
        )
        for part, excluded in _excluded(validation.seen, histories, len(items), size)
    ]
    return per_user(np.concatenate(ranked), validation.relevant.take(rows), k)["ndcg"]


def _excluded(
    seen: Seen, histories: Ragged, n_items: int, size: int
) -> Iterator[tuple[Array, Ragged]]:
    """Yield users in blocks `[B]` and the items that are not ranked for them."""
    for start in range(0, max(len(histories), 1), size):
        part = np.arange(start, min(start + size, len(histories)))
        history = histories.take(part)
        if seen == "only":
            yield part, history.complement(n_items)
        else:
            yield part, history if seen == "exclude" else Ragged.empty(len(part))

"""Validation: NDCG@k over the whole catalogue."""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from train.core.ragged import Array
from train.metrics.ranking import per_user
from train.towers.base import TwoTowerModel
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.trainer.job import Job, World

# Of an NDCG's 1: those of 2^21 users add up to integers that a float64 holds.
UNITS = 2**32


def all_sum(value: Tensor, workers: int) -> Tensor:
    """Return the sum of a tensor over all workers."""
    if workers > 1:
        dist.all_reduce(value)
    return value


def validation_ndcg(model: TwoTowerModel, job: Job, world: World) -> float:
    """Return the mean of `validation_scores` over the users of all workers.

    It is summed in integers, so that neither the number of workers nor the order of users decides
    which of two epochs with the same scores is the better one.
    """
    ndcg = validation_scores(model, job, world)
    counted = ndcg[~np.isnan(ndcg)]
    sums = torch.tensor([int(np.rint(counted * UNITS).sum()), len(counted)], dtype=torch.int64)
    total, count = all_sum(sums.to(world.device), world.size).tolist()
    return float(total / UNITS / max(count, 1))


def validation_scores(
    model: TwoTowerModel, job: Job, world: World | None = None, k: int = 10
) -> Array:
    """Return NDCG@k of this worker's validation users, each ranked over the whole catalogue.

    It is nan for a user who took nothing; one worker has all users, `[V]`.
    """
    validation, world = job.validation, world or World()
    assert validation is not None
    rows = np.arange(len(validation.users))[world.rank :: world.size]
    histories = validation.histories.take(rows)
    found = rank_by_model(
        model,
        encode_users(model, validation.users[rows], histories),
        encode_catalogue(model),
        validation.catalogue,
        histories,
        k,
    )
    return per_user(found, validation.relevant.take(rows), k)["ndcg"]

"""Sampling of negatives for a step: uniform, by popularity, or hard ones.

Shapes: B positives on this worker, W B on all of them; n negatives of each; C items of the
catalogue; U users; P items in a user's pool of hard negatives.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.core.ragged import Array, Ragged
from train.core.schema import Interactions
from train.data.snapshot import TowerInputs
from train.losses.base import Loss
from train.losses.pairwise import PairLoss
from train.towers.batches import Batch
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.towers.model import TwoTowerModel
from train.trainer.examples import item_frequency


@dataclass(frozen=True)
class Negatives:
    """Samples the negatives of a loss, the same for a step however many workers share it.

    Attributes:
        loss: that they are for.
        catalogue: items with training interactions, `[C]`.
        frequency: training interactions of each of them, `[C]`.
        log_q: log of each item's sampling probability, `[I]`; None where the loss needs none.
        pool: hard negatives of each user, -1 where there are no more, `[U, P]`; or None.
    """

    loss: Loss
    catalogue: Tensor
    frequency: Tensor
    log_q: Tensor | None
    pool: Tensor | None

    @classmethod
    def of(
        cls, loss: Loss, items: Array, n_items: int, rows: int, device: torch.device
    ) -> "Negatives":
        """Sample for a loss, without hard negatives.

        Args:
            loss: that they are for.
            items: of the training interactions, `[N]`.
            n_items: I.
            rows: positives of all workers in a step.
            device: of the samples.
        """
        frequency = item_frequency(items, n_items)
        catalogue = frequency.nonzero().flatten()
        log_q = loss.log_q(frequency.to(device), rows)
        return cls(loss, catalogue.to(device), frequency[catalogue].to(device), log_q, pool=None)

    def draw(self, batch: Batch, seed: int) -> Tensor | None:
        """Sample the negatives of this worker's positives: `[M]` for all, or `[B, n]`, n for each.

        None where the positives of the whole step are the only negatives.

        Args:
            batch: with the positives.
            seed: of the step.
        """
        drawn = self.loss.negatives(self.catalogue, self.frequency, len(batch.global_items), seed)
        if drawn is None or drawn.dim() == 1:
            return drawn
        local = drawn[batch.local]
        if self.pool is None or not isinstance(self.loss, PairLoss):
            return local
        count = min(self.loss.hard, local.shape[1])
        # Another seed than that of the draw above. The next step draws from it too, but from the
        # catalogue, and here it is places in a pool.
        generator = torch.Generator().manual_seed(seed + 1)
        # Drawn for the positives of all workers, so that each has the same as if it were alone.
        place = torch.randint(self.pool.shape[1], (len(drawn), count), generator=generator)
        hard = self.pool[batch.positive_users].gather(1, place[batch.local].to(local.device))
        return torch.cat([torch.where(hard < 0, local[:, :count], hard), local[:, count:]], dim=1)


def hard_pool(model: TwoTowerModel, inputs: TowerInputs, known: Interactions, size: int) -> Tensor:
    """Return the best-ranked items of every user without interactions of that user, `[U, size]`.

    They are ranked by the towers as they are now, over the whole warm catalogue (Xiong et al.,
    ANCE, ICLR 2021).

    Args:
        model: the towers.
        inputs: with the warm items.
        known: the training interactions.
        size: of the pool.
    """
    n_users = len(inputs.warm_users)
    histories = Ragged.from_pairs(known.user, known.item, n_users)
    users = encode_users(model, np.arange(n_users), histories)
    items = encode_catalogue(model)
    ranked = rank_by_model(model, users, items, inputs.warm_items, histories, size)
    return torch.as_tensor(ranked, dtype=torch.int64, device=model.device)

"""Which items stand against the positives: drawn uniformly, by popularity, or hard ones.

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
from train.towers.base import TwoTowerModel
from train.towers.encode import encode_catalogue, encode_users, rank_by_model
from train.trainer.batches import Batch
from train.trainer.examples import item_frequency


@dataclass(frozen=True)
class Negatives:
    """Draws a loss's negatives, the same for a step however many workers share it.

    Attributes:
        loss: whose.
        catalogue: items with training interactions, `[C]`.
        frequency: of each of them, `[C]`.
        log_q: of each item, `[I]`, where the loss corrects.
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
        """Return what draws for a loss, without hard negatives.

        Args:
            loss: whose.
            items: of the training interactions, `[N]`.
            n_items: I.
            rows: positives of all workers in a step.
            device: of what is drawn.
        """
        frequency = item_frequency(items, n_items)
        catalogue = frequency.nonzero().flatten()
        log_q = loss.log_q(frequency.to(device), rows)
        chosen = frequency[catalogue].to(device)
        return cls(loss, catalogue.to(device), chosen, log_q, None)

    def draw(self, batch: Batch, seed: int) -> Tensor | None:
        """Return what is scored on this worker: items `[M]` for all positives, or own `[B, n]`.

        None is for the positives of the whole step alone.
        """
        drawn = self.loss.negatives(self.catalogue, self.frequency, len(batch.step_items), seed)
        if drawn is None or drawn.dim() == 1:
            return drawn
        own = drawn[batch.own]
        if self.pool is None or not isinstance(self.loss, PairLoss):
            return own
        count = min(self.loss.hard, own.shape[1])
        generator = torch.Generator().manual_seed(seed + 1)
        place = torch.randint(self.pool.shape[1], (len(drawn), count), generator=generator)
        hard = self.pool[batch.positive_users].gather(1, place[batch.own].to(own.device))
        return torch.cat([torch.where(hard < 0, own[:, :count], hard), own[:, count:]], dim=1)


def hard_pool(model: TwoTowerModel, inputs: TowerInputs, known: Interactions, size: int) -> Tensor:
    """Return the best-ranked items of every user that the user did not take, `[U, size]`.

    They are ranked by the towers as they are now, over the whole warm catalogue (Xiong et al.,
    ANCE, ICLR 2021).
    """
    n_users = len(inputs.warm_users)
    histories = Ragged.from_pairs(known.user, known.item, n_users)
    users = encode_users(model, np.arange(n_users), histories)
    items = encode_catalogue(model)
    ranked = rank_by_model(model, users, items, inputs.warm_items, histories, size)
    return torch.as_tensor(ranked, dtype=torch.int64, device=model.device)

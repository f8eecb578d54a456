"""Losses over inner products of user and item vectors, and the negatives that each one asks for.

Shapes: B positives on this worker, W B on all of them; M negatives that all positives share, or n
of each positive alone; d width; I items.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from train.settings import Settings
from train.softmax import softmax_loss


class Loss(Settings):
    """Settings of one loss.

    Attributes:
        of_cosines: whether it reads scores as cosines, and so needs vectors of length 1.
        temperature: scores are divided by it.
    """

    of_cosines: ClassVar[bool] = False

    temperature: float = Field(default=1.0, gt=0)

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """Return the items scored beside the positives; None for the positives of the whole step.

        Args:
            catalogue: items that may be drawn, `[C]`.
            frequency: training interactions of each of them, `[C]`.
            rows: positives of all workers in this step, W B.
            seed: of this step, the same on every worker.

        Returns:
            Items `[M]` that all positives share, or `[W B, n]`, the own ones of each.
        """
        raise NotImplementedError

    def needs(self, *, normalize: bool) -> str | None:
        """Return what this loss lacks in a tower with or without vectors of length 1, if anything.

        It is the end of a sentence that begins with `loss NAME needs`.
        """
        lacks = self.of_cosines and not normalize
        return "vectors of length 1: set tower.normalize = true" if lacks else None

    def log_q(self, frequency: Tensor) -> Tensor | None:
        """Return log q of each item `[I]` from training frequencies `[I]`; None: not corrected."""
        return None

    def __call__(
        self,
        users: Tensor,
        positives: Tensor,
        negatives: Tensor,
        hits: tuple[Tensor, Tensor],
        log_q: tuple[Tensor, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; here the softmax over shared negatives.

        Args:
            users: `[B, d]`.
            positives: `[B, d]`.
            negatives: `[M, d]`, or `[B, n, d]`.
            hits: items of the positives `[B]` and of the negatives `[M]` or `[B, n]`.
            log_q: the same for `log_q`, where it corrects.
            weight: of each positive, `[B]`.
        """
        return softmax_loss(users / self.temperature, positives, negatives, hits, log_q, weight)


class InBatchSoftmax(Loss):
    """Softmax over the positives of the whole batch, of all workers (Yi et al. 2019).

    Attributes:
        correct_log_q: subtract the log frequency of each item, which in-batch negatives follow.
    """

    name: Literal["in_batch_softmax"] = "in_batch_softmax"
    correct_log_q: bool = True

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """None: the batch is its own negatives."""
        return None

    def log_q(self, frequency: Tensor) -> Tensor | None:
        """Log of the share of each item in the training interactions, `[I]`."""
        if not self.correct_log_q:
            return None
        return torch.log(frequency.clamp(min=1) / frequency.sum())


class SampledSoftmax(Loss):
    """Softmax over the positive and `count` uniform negatives, shared by the batch.

    A uniform q is the same for every item and cancels, so there is nothing to correct.

    Attributes:
        count: negatives M.
    """

    name: Literal["sampled_softmax"] = "sampled_softmax"
    count: int = Field(default=256, ge=1)

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """`count` items drawn uniformly with replacement."""
        return catalogue[_uniform(len(catalogue), self.count, seed).to(catalogue.device)]


class FullSoftmax(Loss):
    """Softmax over the whole catalogue: exact, and O(B x I) a step."""

    name: Literal["full_softmax"] = "full_softmax"

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """The whole catalogue; the positive's own column is masked as a hit."""
        return catalogue


class PairLoss(Loss):
    """A loss over each positive and negatives of its own: `[B]` of scores `[B]` and `[B, n]`.

    Attributes:
        count: negatives n of each positive.
        sampling: "uniform", by "popularity" ** 0.75 (Mikolov et al. 2013), or "in_batch": all
            positives of the step, whatever `count` is.
    """

    count: int = Field(default=16, ge=1)
    sampling: Literal["uniform", "popularity", "in_batch"] = "uniform"

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """`count` items for each positive, with replacement."""
        if self.sampling == "in_batch":
            return None
        if self.sampling == "uniform":
            drawn = _uniform(len(catalogue), rows * self.count, seed).to(catalogue.device)
        else:
            # Searching the summed shares stays exact for catalogues of any size.
            shares = frequency.double().pow(0.75).cumsum(0)
            generator = torch.Generator().manual_seed(seed)
            places = torch.rand(rows * self.count, generator=generator, dtype=torch.float64)
            drawn = torch.searchsorted(shares, places.to(shares.device) * shares[-1])
        return catalogue[drawn].view(rows, self.count)

    def __call__(
        self,
        users: Tensor,
        positives: Tensor,
        negatives: Tensor,
        hits: tuple[Tensor, Tensor],
        log_q: tuple[Tensor, Tensor] | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the mean over the positives; a negative that is the positive itself counts 0."""
        users = users / self.temperature
        own = (users * positives).sum(1)
        shared = negatives.dim() == 2
        others = users @ negatives.T if shared else torch.einsum("bd,bnd->bn", users, negatives)
        real = hits[0][:, None] != hits[1]
        losses = self.of_scores(own.float(), others.float(), real)
        return (losses if weight is None else losses * weight).mean()

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor) -> Tensor:
        """Return the loss of each positive, `[B]`.

        Args:
            own: scores of the positives, `[B]`.
            others: scores of the negatives, `[B, n]`.
            real: which of these count, bool `[B, n]`.
        """
        raise NotImplementedError


class BCE(PairLoss):
    """Binary cross-entropy, `softplus(-s_p) + sum_j softplus(s_j)` (He et al., NCF, WWW 2017)."""

    name: Literal["bce"] = "bce"

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor) -> Tensor:
        """`softplus` is `-log sigmoid` of the opposite sign."""
        return F.softplus(-own) + (F.softplus(others) * real).sum(1)


class BPR(PairLoss):
    """Bayesian personalised ranking, the mean of `softplus(s_j - s_p)` (Rendle et al. 2009)."""

    name: Literal["bpr"] = "bpr"

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor) -> Tensor:
        """`-log sigmoid(s_p - s_j)` of each pair."""
        return _mean(F.softplus(others - own[:, None]), real)


class Triplet(PairLoss):
    """Triplet loss on squared distances, `max(0, margin + |u - p|^2 - |u - n|^2)`, averaged.

    Vectors have length 1, so that `|u - v|^2 = 2 - 2 u . v` and what is nearest scores highest
    (Schroff et al., FaceNet, CVPR 2015).

    Attributes:
        margin: by which a negative should be further away.
        hardest: only the nearest negative of each positive counts.
    """

    of_cosines: ClassVar[bool] = True

    name: Literal["triplet"] = "triplet"
    margin: float = Field(default=0.5, gt=0)
    hardest: bool = False

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor) -> Tensor:
        """Twice a difference of inner products is one of squared distances."""
        losses = (self.margin + 2 * (others - own[:, None])).clamp(min=0) * real
        return losses.amax(1) if self.hardest else _mean(losses, real)


class CosineContrastive(PairLoss):
    """`1 - s_p + weight * mean max(0, s_j - margin)` of cosines (Mao et al., SimpleX, CIKM 2021).

    Attributes:
        margin: cosine below which a negative is left alone.
        negative_weight: of the mean over the negatives. Far above 1 it may push everything
            apart that is popular, and the ranking falls to that of chance.
    """

    of_cosines: ClassVar[bool] = True

    name: Literal["cosine_contrastive"] = "cosine_contrastive"
    count: int = Field(default=64, ge=1)
    margin: float = Field(default=0.4, ge=-1, lt=1)
    negative_weight: float = Field(default=1.0, gt=0)

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor) -> Tensor:
        """Negatives below the margin have no gradient."""
        return 1 - own + self.negative_weight * _mean((others - self.margin).clamp(min=0), real)


def _uniform(size: int, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(size, (count,), generator=generator)


def _mean(values: Tensor, real: Tensor) -> Tensor:
    """Return the mean over the columns that count, `[B]`; 0 where none does."""
    return (values * real).sum(1) / real.sum(1).clamp(min=1)


LOSSES: Mapping[str, type[Loss]] = {
    "in_batch_softmax": InBatchSoftmax,
    "sampled_softmax": SampledSoftmax,
    "full_softmax": FullSoftmax,
    "bce": BCE,
    "bpr": BPR,
    "triplet": Triplet,
    "cosine_contrastive": CosineContrastive,
}

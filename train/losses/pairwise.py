"""Losses over pairs of a positive and a negative: BCE, gBCE, BPR, triplet, cosine contrastive."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from train.losses.base import Loss, LossInputs
from train.losses.sampling import by_popularity, uniform
from train.ops.tensors import products


class PairLoss(Loss):
    """A loss over the scores of each positive, `[B]`, and of n negatives for it, `[B, n]`.

    Attributes:
        count: negatives n of each positive.
        sampling: "uniform", by "popularity" ** 0.75 (Mikolov et al. 2013), or "in_batch": all
            positives of the step, whatever `count` is.
        shared: all positives of a step share the drawn negatives; for large batches and counts.
        hard: so many of the negatives are hard: drawn from the best-ranked items without an
            interaction of the user, as ranked at the start of the epoch (Xiong et al., ANCE, ICLR
            2021); the first epoch has none.
        hard_pool: number of best-ranked items that those are drawn from.
    """

    count: int = Field(default=16, ge=1)
    sampling: Literal["uniform", "popularity", "in_batch"] = "uniform"
    shared: bool = False
    hard: int = Field(default=0, ge=0)
    hard_pool: int = Field(default=200, ge=1)

    @model_validator(mode="after")
    def _hard_negatives_are_own_ones(self) -> "PairLoss":
        if self.hard > self.count:
            raise ValueError(f"hard: expected at most count, {self.count}, got {self.hard}")
        if self.hard and (self.shared or self.sampling == "in_batch"):
            raise ValueError(
                "hard negatives are each user's own: set shared = false, and sampling to uniform "
                "or popularity"
            )
        return self

    @property
    def in_batch(self) -> bool:
        """Whether `sampling` is "in_batch"."""
        return self.sampling == "in_batch"

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """`count` items for each positive, or for all of them, with replacement."""
        if self.in_batch:
            return None
        draw = uniform if self.sampling == "uniform" else by_popularity(frequency)
        if self.shared:
            return draw(catalogue, self.count, seed)
        return draw(catalogue, rows * self.count, seed).view(rows, self.count)

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Return the mean over the positives; a negative that is the positive itself counts 0."""
        score, users = inputs.head or products, inputs.positive_users
        positive = score(users, inputs.positives[:, None])[:, 0].float() / self.temperature
        negative = score(users, inputs.negatives).float() / self.temperature
        mask = inputs.positive_ids[:, None] != inputs.negative_ids
        losses = self.of_scores(positive, negative, mask, inputs.catalogue)
        return (losses if inputs.weight is None else losses * inputs.weight).mean()

    def of_scores(self, positive: Tensor, negative: Tensor, mask: Tensor, catalogue: int) -> Tensor:
        """Return the loss of each positive, `[B]`.

        Args:
            positive: scores of the positives, `[B]`.
            negative: scores of the negatives, `[B, n]`.
            mask: true where a negative counts, false where it is the positive itself, `[B, n]`.
            catalogue: number of items that negatives are sampled from.
        """
        raise NotImplementedError


class BCE(PairLoss):
    """Binary cross-entropy, `softplus(-s_p) + sum_j softplus(s_j)` (He et al., NCF, WWW 2017).

    Attributes:
        from_chance: read scores as log-odds above those of a random item, `log(1 / n)`. The ranking
            is the same, and the vectors need not learn a constant, for which they have no bias.
    """

    suits: ClassVar[tuple[str, ...]] = ("dot", "cosine", "pair")

    name: Literal["bce"] = "bce"
    from_chance: bool = True

    def of_scores(self, positive: Tensor, negative: Tensor, mask: Tensor, catalogue: int) -> Tensor:
        """`softplus` is `-log sigmoid` of the opposite sign."""
        return _cross_entropy(positive, negative, mask, 1.0, self.from_chance)


class GBCE(PairLoss):
    """Binary cross-entropy for few of many negatives (gBCE; Petrov and Macdonald, RecSys 2023).

    `beta softplus(-s_p) + sum_j softplus(s_j)` with `beta = a (t (1 - 1 / a) + 1 / a)`, a the
    fraction of the catalogue that is drawn: sampled negatives alone would make the model too sure.

    Attributes:
        calibration: t, from 0 (BCE) to 1 (scores as if the whole catalogue were scored).
        from_chance: as in `bce`, with `log(beta / n)`.
    """

    suits: ClassVar[tuple[str, ...]] = ("dot", "cosine", "pair")

    name: Literal["gbce"] = "gbce"
    count: int = Field(default=64, ge=1)
    calibration: float = Field(default=0.75, ge=0, le=1)
    from_chance: bool = True

    def of_scores(self, positive: Tensor, negative: Tensor, mask: Tensor, catalogue: int) -> Tensor:
        """The positive's probability is raised to beta."""
        fraction = min(1.0, negative.shape[1] / max(1, catalogue - 1))
        beta = fraction * (self.calibration * (1 - 1 / fraction) + 1 / fraction)
        return _cross_entropy(positive, negative, mask, beta, self.from_chance)


class BPR(PairLoss):
    """Bayesian personalised ranking, the mean of `softplus(s_j - s_p)` (Rendle et al. 2009).

    Attributes:
        form: "logistic", that; or "sigmoid", `1 - sigmoid(s_p - s_j)`, the fraction of wrong pairs,
            whose gradient fades where a pair is far off.
    """

    name: Literal["bpr"] = "bpr"
    form: Literal["logistic", "sigmoid"] = "logistic"

    def of_scores(self, positive: Tensor, negative: Tensor, mask: Tensor, catalogue: int) -> Tensor:
        """`-log sigmoid(s_p - s_j)` of each pair, or `sigmoid(s_j - s_p)`."""
        of_pair = F.softplus if self.form == "logistic" else torch.sigmoid
        return _mean(of_pair(negative - positive[:, None]), mask)


class Triplet(PairLoss):
    """Triplet loss on scores, the mean of `max(0, margin + s_j - s_p)`.

    Euclidean scores make it that on squared distances, `max(0, margin + |u - p|^2 - |u - n|^2)`
    (Schroff et al., FaceNet, CVPR 2015).

    Attributes:
        margin: by which the positive should score higher.
        hardest: only the negative that scores highest counts.
    """

    name: Literal["triplet"] = "triplet"
    margin: float = Field(default=0.5, gt=0)
    hardest: bool = False

    def of_scores(self, positive: Tensor, negative: Tensor, mask: Tensor, catalogue: int) -> Tensor:
        """A pair that is right by the margin has no gradient."""
        losses = (self.margin + negative - positive[:, None]).clamp(min=0) * mask
        return losses.amax(1) if self.hardest else _mean(losses, mask)


class CosineContrastive(PairLoss):
    """`1 - s_p + weight * mean max(0, s_j - margin)` of cosines (Mao et al., SimpleX, CIKM 2021).

    Attributes:
        margin: cosine below which a negative is left alone.
        negative_weight: of the mean over the negatives. Far above 1 it may push all popular items
            away from all users, and the ranking falls to that of chance.
    """

    suits: ClassVar[tuple[str, ...]] = ("cosine",)

    name: Literal["cosine_contrastive"] = "cosine_contrastive"
    count: int = Field(default=64, ge=1)
    margin: float = Field(default=0.4, ge=-1, lt=1)
    negative_weight: float = Field(default=1.0, gt=0)

    def of_scores(self, positive: Tensor, negative: Tensor, mask: Tensor, catalogue: int) -> Tensor:
        """Negatives below the margin have no gradient."""
        return (
            1 - positive + self.negative_weight * _mean((negative - self.margin).clamp(min=0), mask)
        )


def _cross_entropy(
    positive: Tensor, negative: Tensor, mask: Tensor, beta: float, from_chance: bool
) -> Tensor:
    """Return `beta softplus(-s_p) + sum_j softplus(s_j)`, `[B]`."""
    chance = math.log(beta / negative.shape[1]) if from_chance else 0.0
    return beta * F.softplus(-positive - chance) + (F.softplus(negative + chance) * mask).sum(1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the columns that count, `[B]`; 0 where none does."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)

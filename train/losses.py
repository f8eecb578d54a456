"""Losses over inner products of user and item vectors, and the negatives that each one asks for.

Shapes: B positives on this worker, W B on all of them, and their users, or fewer users where these
have several; M negatives that all positives share, or n of each positive alone; d width; I items.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from train.settings import Settings
from train.sides import products
from train.softmax import softmax_loss, softmax_of_scores

Head = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scored:
    """What a loss is computed of: positives, and negatives that are scored against them.

    Attributes:
        users: `[B, d]`.
        positives: `[B, d]`.
        negatives: `[M, d]`, or `[B, n, d]`.
        hits: items of the positives `[B]` and of the negatives `[M]` or `[B, n]`.
        log_q: the same for `log_q`, where it corrects.
        weight: of each positive, `[B]`.
        catalogue: how many items negatives are drawn from.
        head: scores users `[B, d]` with items `[M, d]` or `[B, n, d]`, where that is not their
            inner product.
        rows: of `users`, whose each positive is, ascending `[B]`, where a user has several.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    hits: tuple[Tensor, Tensor]
    log_q: tuple[Tensor, Tensor] | None = None
    weight: Tensor | None = None
    catalogue: int = 0
    head: Head | None = None
    rows: Tensor | None = None


class Loss(Settings):
    """Settings of one loss.

    Attributes:
        suits: what `tower.score` it can learn from.
        temperature: scores are divided by it.
    """

    suits: ClassVar[tuple[str, ...]] = ("dot", "cosine", "euclidean", "pair")

    temperature: float = Field(default=1.0, gt=0)

    @property
    def in_batch(self) -> bool:
        """Whether the positives of the whole step are negatives of each other."""
        return False

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """Return the items scored beside the positives; None for none but those of the whole step.

        Args:
            catalogue: items that may be drawn, `[C]`.
            frequency: training interactions of each of them, `[C]`.
            rows: positives of all workers in this step, W B.
            seed: of this step, the same on every worker.

        Returns:
            Items `[M]` that all positives share, or `[W B, n]`, the own ones of each.
        """
        raise NotImplementedError

    def needs(self, scores: str) -> str | None:
        """Return what this loss lacks in a tower with such scores, if anything.

        It is the end of a sentence that begins with `loss NAME needs`.
        """
        if scores in self.suits:
            return None
        return f"scores of {' or '.join(self.suits)}, not {scores}: set tower"

    def log_q(self, frequency: Tensor, rows: int) -> Tensor | None:
        """Return log q of each item, up to a constant, `[I]`; None: not corrected.

        Args:
            frequency: training interactions of each item, `[I]`.
            rows: positives of all workers in a step.
        """
        return None

    def __call__(self, scored: Scored) -> Tensor:
        """Return the loss, a scalar; here the softmax over shared negatives."""
        rest = scored.hits, scored.log_q, scored.weight, scored.rows
        if scored.head is None:
            users = scored.users / self.temperature
            return softmax_loss(users, scored.positives, scored.negatives, *rest)
        whose = scored.users if scored.rows is None else scored.users[scored.rows]
        own = scored.head(whose, scored.positives[:, None])[:, 0]
        others = scored.head(scored.users, scored.negatives)
        return softmax_of_scores(own / self.temperature, others / self.temperature, *rest)


class InBatchSoftmax(Loss):
    """Softmax over the positives of the whole batch, of all workers (Yi et al. 2019).

    Attributes:
        correct_log_q: subtract the log of how often each item is among the negatives.
        uniform: items drawn uniformly that stand beside the batch's own, so that rare ones are
            seen too (mixed negatives; Yang et al. 2020).
    """

    name: Literal["in_batch_softmax"] = "in_batch_softmax"
    correct_log_q: bool = True
    uniform: int = Field(default=0, ge=0)

    @property
    def in_batch(self) -> bool:
        """It is."""
        return True

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """None: the batch is its own negatives; or what stands beside it."""
        return _uniform(catalogue, self.uniform, seed) if self.uniform else None

    def log_q(self, frequency: Tensor, rows: int) -> Tensor | None:
        """Log of how often each item is expected among a step's negatives, a row, `[I]`."""
        if not self.correct_log_q:
            return None
        in_batch = frequency.clamp(min=1) / frequency.sum()
        drawn = self.uniform / rows / frequency.count_nonzero()
        return torch.log(in_batch + drawn)


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
        return _uniform(catalogue, self.count, seed)


class FullSoftmax(Loss):
    """Softmax over the whole catalogue: exact, and O(B x I) a step.

    Of towers that score pairs by layers, memory is O(B x I x width) too.
    """

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
        shared: all positives of a step share the drawn negatives; for large batches and counts.
        hard: so many of the negatives are drawn from the best-ranked items that the user did not
            take, as ranked at the start of the epoch (Xiong et al., ANCE, ICLR 2021); the first
            epoch has none.
        hard_pool: how many best-ranked items those are drawn from.
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
        """Where sampling says so."""
        return self.sampling == "in_batch"

    def negatives(
        self, catalogue: Tensor, frequency: Tensor, rows: int, seed: int
    ) -> Tensor | None:
        """`count` items for each positive, or for all of them, with replacement."""
        if self.in_batch:
            return None
        draw = _uniform if self.sampling == "uniform" else _popular(frequency)
        if self.shared:
            return draw(catalogue, self.count, seed)
        return draw(catalogue, rows * self.count, seed).view(rows, self.count)

    def __call__(self, scored: Scored) -> Tensor:
        """Return the mean over the positives; a negative that is the positive itself counts 0."""
        score = scored.head or products
        users = scored.users if scored.rows is None else scored.users[scored.rows]
        own = score(users, scored.positives[:, None])[:, 0].float() / self.temperature
        others = score(users, scored.negatives).float() / self.temperature
        real = scored.hits[0][:, None] != scored.hits[1]
        losses = self.of_scores(own, others, real, scored.catalogue)
        return (losses if scored.weight is None else losses * scored.weight).mean()

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor, catalogue: int) -> Tensor:
        """Return the loss of each positive, `[B]`.

        Args:
            own: scores of the positives, `[B]`.
            others: scores of the negatives, `[B, n]`.
            real: which of these count, bool `[B, n]`.
            catalogue: how many items they are drawn from.
        """
        raise NotImplementedError


class BCE(PairLoss):
    """Binary cross-entropy, `softplus(-s_p) + sum_j softplus(s_j)` (He et al., NCF, WWW 2017).

    Attributes:
        from_chance: read scores as log-odds above those of a random item, `log(1 / n)`. The ranking
            is the same, and the vectors are spared to learn a constant that they do not have.
    """

    suits: ClassVar[tuple[str, ...]] = ("dot", "cosine", "pair")

    name: Literal["bce"] = "bce"
    from_chance: bool = True

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor, catalogue: int) -> Tensor:
        """`softplus` is `-log sigmoid` of the opposite sign."""
        return _cross_entropy(own, others, real, 1.0, self.from_chance)


class GBCE(PairLoss):
    """Binary cross-entropy for few of many negatives (gBCE; Petrov and Macdonald, RecSys 2023).

    `beta softplus(-s_p) + sum_j softplus(s_j)` with `beta = a (t (1 - 1 / a) + 1 / a)`, a the
    share of the catalogue that is drawn: sampled negatives alone would make the model too sure.

    Attributes:
        calibration: t, from 0 (BCE) to 1 (scores as if the whole catalogue were scored).
        from_chance: as in `bce`, with `log(beta / n)`.
    """

    suits: ClassVar[tuple[str, ...]] = ("dot", "cosine", "pair")

    name: Literal["gbce"] = "gbce"
    count: int = Field(default=64, ge=1)
    calibration: float = Field(default=0.75, ge=0, le=1)
    from_chance: bool = True

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor, catalogue: int) -> Tensor:
        """The positive's probability is raised to beta."""
        share = min(1.0, others.shape[1] / max(1, catalogue - 1))
        beta = share * (self.calibration * (1 - 1 / share) + 1 / share)
        return _cross_entropy(own, others, real, beta, self.from_chance)


class BPR(PairLoss):
    """Bayesian personalised ranking, the mean of `softplus(s_j - s_p)` (Rendle et al. 2009).

    Attributes:
        form: "logistic", that; or "sigmoid", `1 - sigmoid(s_p - s_j)`, the share of wrong pairs,
            whose gradient fades where a pair is far off.
    """

    name: Literal["bpr"] = "bpr"
    form: Literal["logistic", "sigmoid"] = "logistic"

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor, catalogue: int) -> Tensor:
        """`-log sigmoid(s_p - s_j)` of each pair, or `sigmoid(s_j - s_p)`."""
        of_pair = F.softplus if self.form == "logistic" else torch.sigmoid
        return _mean(of_pair(others - own[:, None]), real)


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

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor, catalogue: int) -> Tensor:
        """A pair that is right by the margin has no gradient."""
        losses = (self.margin + others - own[:, None]).clamp(min=0) * real
        return losses.amax(1) if self.hardest else _mean(losses, real)


class CosineContrastive(PairLoss):
    """`1 - s_p + weight * mean max(0, s_j - margin)` of cosines (Mao et al., SimpleX, CIKM 2021).

    Attributes:
        margin: cosine below which a negative is left alone.
        negative_weight: of the mean over the negatives. Far above 1 it may push everything
            apart that is popular, and the ranking falls to that of chance.
    """

    suits: ClassVar[tuple[str, ...]] = ("cosine",)

    name: Literal["cosine_contrastive"] = "cosine_contrastive"
    count: int = Field(default=64, ge=1)
    margin: float = Field(default=0.4, ge=-1, lt=1)
    negative_weight: float = Field(default=1.0, gt=0)

    def of_scores(self, own: Tensor, others: Tensor, real: Tensor, catalogue: int) -> Tensor:
        """Negatives below the margin have no gradient."""
        return 1 - own + self.negative_weight * _mean((others - self.margin).clamp(min=0), real)


def _uniform(catalogue: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(catalogue), (count,), generator=generator)
    return catalogue[drawn.to(catalogue.device)]


def _popular(frequency: Tensor) -> Callable[[Tensor, int, int], Tensor]:
    def draw(catalogue: Tensor, count: int, seed: int) -> Tensor:
        # Searching the summed shares stays exact for catalogues of any size.
        shares = frequency.double().pow(0.75).cumsum(0)
        generator = torch.Generator().manual_seed(seed)
        places = torch.rand(count, generator=generator, dtype=torch.float64)
        return catalogue[torch.searchsorted(shares, places.to(shares.device) * shares[-1])]

    return draw


def _cross_entropy(
    own: Tensor, others: Tensor, real: Tensor, beta: float, from_chance: bool
) -> Tensor:
    """Return `beta softplus(-s_p) + sum_j softplus(s_j)`, `[B]`."""
    chance = math.log(beta / others.shape[1]) if from_chance else 0.0
    return beta * F.softplus(-own - chance) + (F.softplus(others + chance) * real).sum(1)


def _mean(values: Tensor, real: Tensor) -> Tensor:
    """Return the mean over the columns that count, `[B]`; 0 where none does."""
    return (values * real).sum(1) / real.sum(1).clamp(min=1)


LOSSES: Mapping[str, type[Loss]] = {
    "in_batch_softmax": InBatchSoftmax,
    "sampled_softmax": SampledSoftmax,
    "full_softmax": FullSoftmax,
    "bce": BCE,
    "gbce": GBCE,
    "bpr": BPR,
    "triplet": Triplet,
    "cosine_contrastive": CosineContrastive,
}

"""Base class of the losses, and their inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from train.core.settings import Settings
from train.ops.softmax import SampleInfo, softmax_loss, softmax_of_scores

Head = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossInputs:
    """Inputs of a loss: vectors of a batch's users, of their positives and of the negatives.

    B users, and as many positives unless `rows` says whose each one is; M negatives shared by all
    positives, or n for each of them.

    Attributes:
        users: `[B, d]`.
        positives: `[B, d]`.
        negatives: `[M, d]`, or `[B, n, d]`.
        positive_ids: items of the positives, `[B]`.
        negative_ids: items of the negatives, `[M]` or `[B, n]`; a negative that is the positive
            itself (accidental hit) is masked.
        positive_log_q: log of the probability with which each positive's item is sampled as a
            negative, `[B]`; None where the loss does not correct for it.
        negative_log_q: the same of the negatives, `[M]` or `[B, n]`.
        weight: of each positive, `[B]`; None where all are 1.
        catalogue: number of items that negatives are sampled from.
        head: scores users `[B, d]` with items `[M, d]` or `[B, n, d]`, where that is not their
            inner product.
        rows: index into `users` of each positive's user, ascending, where a user has several.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    positive_ids: Tensor
    negative_ids: Tensor
    positive_log_q: Tensor | None = None
    negative_log_q: Tensor | None = None
    weight: Tensor | None = None
    catalogue: int = 0
    head: Head | None = None
    rows: Tensor | None = None

    @property
    def positive_users(self) -> Tensor:
        """The user vector of each positive."""
        return self.users if self.rows is None else self.users[self.rows]

    @property
    def sample(self) -> SampleInfo:
        """Everything but vectors and scores, as the softmax takes it."""
        return SampleInfo(
            positive_ids=self.positive_ids,
            negative_ids=self.negative_ids,
            positive_log_q=self.positive_log_q,
            negative_log_q=self.negative_log_q,
            weight=self.weight,
            rows=self.rows,
        )


class Loss(Settings):
    """Settings of one loss.

    Attributes:
        suits: values of `tower.score` that it can learn from.
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
        """Sample the negatives of a step; None where its positives are all there are.

        Args:
            catalogue: items that may be drawn, `[C]`.
            frequency: training interactions of each of them, `[C]`.
            rows: positives of all workers in this step, W B.
            seed: of this step, the same on every worker.

        Returns:
            Items `[M]` that all positives share, or `[W B, n]`, n for each of them.
        """
        raise NotImplementedError

    def needs(self, scores: str) -> str | None:
        """Return the scores that this loss needs instead of a tower's; None where these suit.

        It is the end of a sentence that begins with `loss NAME needs`.
        """
        if scores in self.suits:
            return None
        return f"scores of {' or '.join(self.suits)}, not {scores}: set tower"

    def log_q(self, frequency: Tensor, rows: int) -> Tensor | None:
        """Log of each item's sampling probability q, up to a constant, `[I]`; None: uncorrected.

        Args:
            frequency: training interactions of each item, `[I]`.
            rows: positives of all workers in a step.
        """
        return None

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Return the loss, a scalar; here the softmax over shared negatives."""
        if inputs.head is None:
            users = inputs.users / self.temperature
            return softmax_loss(users, inputs.positives, inputs.negatives, inputs.sample)
        positive = inputs.head(inputs.positive_users, inputs.positives[:, None])[:, 0]
        negative = inputs.head(inputs.users, inputs.negatives)
        return softmax_of_scores(
            positive / self.temperature, negative / self.temperature, inputs.sample
        )

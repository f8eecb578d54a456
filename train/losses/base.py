"""Base class of the losses, and their inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from train.core.settings import Settings
from train.ops.softmax import softmax_loss, softmax_of_scores

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

"""How long, in which steps and at which rate towers are trained, where nobody says it.

Few data need small steps at a high rate, or ten epochs of them are over before anything is learned;
many data are seen often enough in few epochs. The figures that this rests on are in
docs/quality.md, "How the towers' defaults were chosen".
"""

from dataclasses import dataclass
from typing import Protocol

SMALLEST, LARGEST = 256, 2048
# Steps of an epoch that the batch is chosen for.
STEPS = 500
# Of a batch of SMALLEST; a larger one takes a higher rate (Krizhevsky 2014: by its square root).
RATE = 5e-3
HIGHEST_RATE = 1e-2
# Examples that are seen in all, where as many epochs are wanted.
EXAMPLES = 8_000_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 30
PATIENCE = 3


class Asked(Protocol):
    """The settings of a training that may be None."""

    batch_size: int | None
    epochs: int | None
    learning_rate: float | None
    patience: int | None


@dataclass(frozen=True)
class Schedule:
    """A training's settings, none of them left open.

    Attributes:
        batch_size: examples a worker and step.
        epochs: at the most.
        learning_rate: in the beginning.
        patience: epochs without a better validation NDCG before it stops.
    """

    batch_size: int
    epochs: int
    learning_rate: float
    patience: int

    @classmethod
    def of(cls, asked: Asked, examples: int, workers: int) -> "Schedule":
        """Fill in what is not asked for, by the number of examples of an epoch.

        Args:
            asked: settings; None leaves one open.
            examples: of an epoch.
            workers: that share a step; with their number the batch of all stays the same.
        """
        workers = max(1, workers)
        batch = asked.batch_size or max(1, batch_of(examples) // workers)
        return cls(
            batch_size=batch,
            epochs=asked.epochs or epochs_of(examples),
            learning_rate=asked.learning_rate or rate_of(batch * workers),
            patience=asked.patience or PATIENCE,
        )


def batch_of(examples: int) -> int:
    """Return the power of two nearest above a batch with `STEPS` steps an epoch, within bounds."""
    wanted = max(1, examples // STEPS)
    return min(LARGEST, max(SMALLEST, 1 << (wanted - 1).bit_length()))


def rate_of(batch: int) -> float:
    """Return AdamW's learning rate for a step's examples of all workers."""
    return min(HIGHEST_RATE, round(RATE * max(1.0, batch / SMALLEST) ** 0.5, 4))


def epochs_of(examples: int) -> int:
    """Return the most epochs of so many examples each."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, EXAMPLES // max(1, examples)))

"""How long, in which steps and at which rate towers are trained, where nobody says it.

Few examples need small steps at a high rate: an epoch of them has too few steps to learn anything.
What the rule rests on is in docs/quality.md, "Defaults of the towers".
"""

from dataclasses import dataclass
from typing import Protocol

# Up to FEW examples an epoch the batch and the rate are these; of more, batches are larger and the
# rate lower in proportion: there are more steps to an epoch, and the first ones overfit.
FEW = 300_000
BATCH, LARGEST = 256, 1024
RATE, LOWEST_RATE = 5e-3, 1e-3
# Few examples are learned by heart without a strong one.
DECAY, LARGE_DECAY = 0.5, 0.1
# Examples that are seen in all, where as many epochs are wanted.
EXAMPLES = 8_000_000
FEWEST_EPOCHS, MOST_EPOCHS = 5, 10
PATIENCE = 3


class Asked(Protocol):
    """The settings of a training that may be None."""

    batch_size: int | None
    epochs: int | None
    learning_rate: float | None
    patience: int | None
    weight_decay: float | None


@dataclass(frozen=True)
class Schedule:
    """A training's settings, none of them left open.

    Attributes:
        batch_size: examples a worker and step.
        epochs: at the most.
        learning_rate: in the beginning.
        patience: epochs without a better validation NDCG before it stops.
        weight_decay: of AdamW.
    """

    batch_size: int
    epochs: int
    learning_rate: float
    patience: int
    weight_decay: float

    @classmethod
    def of(cls, asked: Asked, examples: int, workers: int) -> "Schedule":
        """Fill in what is not asked for, by the number of examples of an epoch.

        Args:
            asked: settings; None leaves one open.
            examples: of an epoch.
            workers: that share a step; with their number the batch of all stays the same.
        """
        decay = DECAY if examples <= FEW else LARGE_DECAY
        return cls(
            batch_size=asked.batch_size or max(1, batch_of(examples) // max(1, workers)),
            epochs=asked.epochs or epochs_of(examples),
            learning_rate=asked.learning_rate or rate_of(examples),
            patience=asked.patience or PATIENCE,
            weight_decay=decay if asked.weight_decay is None else asked.weight_decay,
        )


def batch_of(examples: int) -> int:
    """Return how many examples a step of all workers has, a power of two."""
    wanted = max(BATCH, BATCH * examples // FEW)
    return min(LARGEST, 1 << (wanted - 1).bit_length())


def rate_of(examples: int) -> float:
    """Return AdamW's learning rate, to two digits."""
    return max(LOWEST_RATE, round(RATE * min(1.0, FEW / max(1, examples)), 4))


def epochs_of(examples: int) -> int:
    """Return the most epochs of so many examples each."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, EXAMPLES // max(1, examples)))

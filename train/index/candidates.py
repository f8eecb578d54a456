"""Requests in indices, and the candidates that stage 1 retrieves for them."""

from dataclasses import dataclass

from train.core.ragged import Array, Ragged


@dataclass(frozen=True)
class Queries:
    """Users and histories to find candidates for.

    Attributes:
        user: int32 `[B]`, -1 for a user unknown at training time.
        history: `B` rows of items, oldest first.
        exclude: `B` rows of items that must not be recommended: seen ones and those asked for.
    """

    user: Array
    history: Ragged
    exclude: Ragged


@dataclass(frozen=True)
class Candidates:
    """Items that stage 1 retrieved, best first.

    Attributes:
        items: int32 `[B, C]`, -1 after the last.
        scores: float32 `[B, C]`, -inf after the last.
    """

    items: Array
    scores: Array

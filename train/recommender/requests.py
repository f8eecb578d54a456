"""Requests, and what stage 1 retrieves for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from train.core.ragged import Array
from train.index.candidates import Candidates, Queries

Id = int | str

Source = Literal["personal", "history", "popular"]


@dataclass(frozen=True)
class Request:
    """What is asked for one user.

    Attributes:
        user_id: of a user in the bundle; anything else is an unknown user.
        history: item ids, oldest first; appended to what the bundle knows of the user.
        k: how many items to return.
        exclude: item ids not to return; what the user has seen is never returned.
        explain: whether to say where each item comes from.
    """

    user_id: Id | None = None
    history: Sequence[Id] = ()
    k: int = 10
    exclude: Sequence[Id] = ()
    explain: bool = False


@dataclass(frozen=True)
class Retrieved:
    """Stage 1's result for a list of requests.

    Attributes:
        queries: the requests in indices, B of them.
        vectors: float32 `[B, d]`.
        candidates: items and scores `[B, C]`, best first.
        sources: what each answer rests on.
        ignored: ids of each request's history that the bundle does not know.
    """

    queries: Queries
    vectors: Array
    candidates: Candidates
    sources: list[Source]
    ignored: list[list[Id]]

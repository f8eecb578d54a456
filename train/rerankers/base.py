"""Base class of the rerankers: fitted to labelled candidates, they order those of others."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from pydantic import Field

from train.core.ragged import Array
from train.core.settings import Settings
from train.rerankers.candidate_rows import CandidateRows


class Reranker(Protocol):
    """A fitted model."""

    @property
    def name(self) -> str:
        """Its key in `RERANKERS`."""
        ...

    def score(self, pairs: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`; greater is better, within a query."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model's one file into `folder`."""
        ...


Labelled = tuple[CandidateRows, Array]
"""Rows, and 1 where the candidate was taken, else 0, `[R]`."""


@dataclass(frozen=True)
class Given:
    """What a reranker is fitted to, as `RerankerSettings.fit` is given it, of the rows it kept."""

    pairs: CandidateRows
    labels: Array
    item_vectors: Array
    feature_names: tuple[str, ...]
    seed: int
    threads: int
    evaluation: Labelled | None


class RerankerSettings(Settings):
    """Settings of a reranker; `fit` makes one.

    Attributes:
        reads_vectors: whether it learns from the towers' vectors, element by element.
        negatives: candidates not taken that are fitted on, a query, on average. In a softmax each
            stands for those that were left out.
        max_rows: that are fitted on, in whole queries.
    """

    reads_vectors: ClassVar[bool] = False

    negatives: int = Field(default=30, gt=0)
    max_rows: int = Field(default=200_000, gt=0)

    def check(self, feature_names: tuple[str, ...]) -> None:
        """Raise ValueError where the settings do not suit candidates with these features."""

    def fit(
        self,
        pairs: CandidateRows,
        labels: Array,
        item_vectors: Array,
        feature_names: tuple[str, ...],
        seed: int,
        threads: int,
        evaluation: Labelled | None = None,
    ) -> Reranker:
        """Fit on queries that have a positive.

        Args:
            pairs: the rows, all those of a query next to each other.
            labels: 1 where the candidate was taken, else 0, `[R]`.
            item_vectors: float32 `[I, d]`.
            feature_names: of the columns, `[F]`.
            seed: the same seed, data and `threads` give the same model.
            threads: of the processor.
            evaluation: other queries; fitting stops when these get no better.

        Raises:
            ValueError: no row is positive, or the shapes do not fit each other.
        """
        _check(pairs, labels, feature_names)
        kept, share = _useful(pairs, labels, self, seed)
        some = replace(pairs, importance=1 / share).take(kept)
        given = labels[kept], item_vectors, feature_names, seed, threads, evaluation
        return self._fit(Given(some, *given))

    def _fit(self, given: Given) -> Reranker:
        raise NotImplementedError

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read what a fitted model's `save` wrote into `folder`.

        Raises:
            ValueError: the file is missing, or not this model's.
        """
        raise NotImplementedError


def _check(pairs: CandidateRows, labels: Array, feature_names: tuple[str, ...]) -> None:
    rows, columns = pairs.features.shape
    if len(labels) != rows or len(feature_names) != columns:
        raise ValueError(
            f"features [{rows}, {columns}] need {rows} labels and {columns} names, "
            f"got {len(labels)} and {len(feature_names)}"
        )
    if not (labels > 0).any():
        raise ValueError(
            f"none of the {rows} candidates was taken: a reranker has nothing to learn from; "
            "retrieve more candidates or widen the validation window"
        )


def _useful(
    pairs: CandidateRows, labels: Array, settings: RerankerSettings, seed: int
) -> tuple[Array, Array]:
    """Return the rows to fit on, bool [R], and the share that is drawn of such rows, float32 [R].

    They are of queries with a positive, as many as fit, at random, with all positives. With fewer
    negatives fitting is several times faster.
    """
    rng = np.random.default_rng(seed)
    positive = labels > 0
    lengths = np.bincount(pairs.query, ~positive)
    wanted = np.minimum(settings.negatives / np.maximum(lengths, 1), 1)
    share = np.where(positive, 1, wanted[pairs.query]).astype(np.float32)
    drawn = rng.random(len(labels)) < share
    order = rng.permutation(np.flatnonzero(np.bincount(pairs.query, positive)))
    fits = np.cumsum(np.bincount(pairs.query, drawn)[order]) <= settings.max_rows
    fits[:1] = True
    chosen = np.zeros(len(lengths), dtype=bool)
    chosen[order[fits]] = True
    return drawn & chosen[pairs.query], share

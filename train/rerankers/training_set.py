"""The training set of a reranker: labelled candidate rows, and the items they are of."""

from dataclasses import dataclass, replace

import numpy as np

from train.core.ragged import Array, Ragged
from train.rerankers.candidate_rows import CandidateRows


@dataclass(frozen=True)
class TrainingSet:
    """Labelled candidate rows, all those of a request next to each other, in stage 1's order.

    Attributes:
        rows: the candidates, `R` of them, of `B` requests.
        labels: 1 where the user interacted with the candidate, else 0, `[R]`.
        item_vectors: float32 `[I, d]`.
        feature_names: of the columns of `rows.features`, `[F]`.
        ground_truth: all items that each request's user interacted with, `B` rows, candidates or
            not; None where only the candidates are known.
        judged: requests, the first ones, with all their candidates, by which a reranker can be
            judged; the others have a sample of theirs to learn from, and no ground truth. None
            where all can be.
    """

    rows: CandidateRows
    labels: Array
    item_vectors: Array
    feature_names: tuple[str, ...]
    ground_truth: Ragged | None = None
    judged: int | None = None

    def __post_init__(self) -> None:
        """Check that there is a label for each row and a name for each column."""
        rows, columns = self.rows.features.shape
        if len(self.labels) != rows or len(self.feature_names) != columns:
            raise ValueError(
                f"features [{rows}, {columns}] need {rows} labels and {columns} names, "
                f"got {len(self.labels)} and {len(self.feature_names)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def requests_judged(self) -> int:
        """Requests by which a reranker can be judged: all, or the first ones."""
        return len(self.rows.user_vectors) if self.judged is None else self.judged

    @property
    def relevant(self) -> Ragged:
        """The ground truth, or the candidates with a positive label in its place, B rows."""
        if self.ground_truth is not None:
            return self.ground_truth
        positive = self.labels > 0
        rows = self.rows
        return Ragged.from_pairs(rows.query[positive], rows.item[positive], len(rows.user_vectors))

    def take(self, mask: Array) -> "TrainingSet":
        """Return the rows of a mask, bool `[R]`; requests keep their numbers."""
        return replace(self, rows=self.rows.take(mask), labels=self.labels[mask])


def sampled(training: TrainingSet, negatives: int, max_rows: int, seed: int) -> TrainingSet:
    """Return requests with a positive, all their positives, and some negatives of each.

    Requests are drawn at random, as many as fit. Negatives are down-sampled, which makes fitting
    several times faster, and weighted by 1 over the probability of being sampled. Requests that
    hold a sample already keep it.

    Args:
        training: the rows to draw from.
        negatives: sampled of each request, on average.
        max_rows: of all requests together; the first drawn stays even if it has more.
        seed: of the sampling.
    """
    rng = np.random.default_rng(seed)
    query, positive = training.rows.query, training.labels > 0
    negatives_of = np.bincount(query, ~positive)
    probability = np.minimum(negatives / np.maximum(negatives_of, 1), 1)[query]
    kept = positive | (query >= training.requests_judged)
    probability = np.where(kept, 1, probability).astype(np.float32)
    drawn = rng.random(len(training)) < probability
    order = rng.permutation(np.flatnonzero(np.bincount(query, positive)))
    fits = np.cumsum(np.bincount(query, drawn)[order]) <= max_rows
    fits[:1] = True
    chosen = np.zeros(len(negatives_of), dtype=bool)
    chosen[order[fits]] = True
    given = training.rows.importance
    importance = 1 / probability if given is None else given / probability
    weighted = replace(training, rows=replace(training.rows, importance=importance))
    return weighted.take(drawn & chosen[query])

"""Base class of the rerankers: fitted to labelled candidates, they order those of others."""

from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import Field

from train.core.ragged import Array
from train.core.settings import Settings
from train.rerankers.candidate_rows import CandidateRows
from train.rerankers.training_set import TrainingSet, sampled


class Reranker(Protocol):
    """A fitted model.

    A row's score depends on the rows of its own request alone, bit for bit: it is the same whatever
    other requests are scored with it, so that offline evaluation, which scores many at once, and
    serving, which scores one, give the same order.
    """

    @property
    def name(self) -> str:
        """Its key in `RERANKERS`."""
        ...

    @property
    def reads_users(self) -> bool:
        """Whether what is the same for all candidates of a request can change their order."""
        ...

    def score(self, rows: CandidateRows) -> Array:
        """Return a score for each row, float32 `[R]`; greater is better, within a request."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model's one file into `folder`."""
        ...


class RerankerSettings(Settings):
    """Settings of a reranker; `fit` makes one.

    Attributes:
        reads_vectors: whether it learns from the towers' vectors, element by element.
        negatives: candidates without an interaction that are sampled of each request, on average.
            In a softmax each is weighted by 1 over the probability of being sampled.
        max_rows: rows that are fitted on, in whole requests.
    """

    reads_vectors: ClassVar[bool] = False

    name: str = ""
    negatives: int = Field(default=30, gt=0)
    max_rows: int = Field(default=200_000, gt=0)

    def check(self, feature_names: tuple[str, ...]) -> None:
        """Raise ValueError where the settings do not suit candidates with these features."""

    def fit(
        self,
        training: TrainingSet,
        seed: int = 0,
        threads: int = 1,
        evaluation: TrainingSet | None = None,
    ) -> Reranker:
        """Fit on a sample of the requests that have a positive; see `sampled`.

        Args:
            training: the labelled rows.
            seed: the same seed, training set and `threads` give the same model.
            threads: of the processor.
            evaluation: other requests; fitting stops when the loss on these gets no lower.

        Raises:
            ValueError: no row is positive.
        """
        if not (training.labels > 0).any():
            raise ValueError(
                f"none of the {len(training)} candidates was taken: a reranker has nothing to "
                "learn from; retrieve more candidates or widen the validation window"
            )
        sample = sampled(training, self.negatives, self.max_rows, seed)
        return self._fit(sample, seed, threads, evaluation)

    def _fit(
        self, training: TrainingSet, seed: int, threads: int, evaluation: TrainingSet | None
    ) -> Reranker:
        raise NotImplementedError

    def load(self, folder: Path, item_vectors: Array) -> Reranker:
        """Read what a fitted model's `save` wrote into `folder`.

        Raises:
            ValueError: the file is missing, or not this model's.
        """
        raise NotImplementedError

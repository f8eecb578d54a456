"""Both stages over user indices: what the reranker learns from, and what evaluation measures."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.core.ragged import Array, Ragged
from train.core.top_k import top_k
from train.data.encoded import Encoded
from train.data.snapshot import Snapshot, Window
from train.index.candidates import Candidates, Queries
from train.index.pair_index import PairHead, PairIndex
from train.index.vector_index import Index, IndexSettings
from train.metrics.ranking import per_user
from train.rerankers.base import Reranker, RerankerSettings
from train.rerankers.cross_validation import cross_fit, earns
from train.rerankers.features import Catalogue, feature_names
from train.rerankers.pairs import Pairs, pairs


@dataclass(frozen=True)
class StageOne:
    """Fitted towers over a snapshot, with the index over their item vectors.

    Attributes:
        user_vectors: float32 `[U, d]`.
        item_vectors: float32 `[I, d]`.
        added: elements at the end of vectors that scores add to the product of the others.
    """

    snapshot: Snapshot
    user_vectors: Array
    item_vectors: Array
    index: Index | PairIndex
    added: int = 0

    def queries(self, users: Array) -> Queries:
        """Return the queries of users `[B]`: their histories, which are not recommended again."""
        history = self.snapshot.histories.take(users)
        return Queries(user=users.astype(np.int32), history=history, exclude=history)

    def candidates(self, queries: Queries, count: int) -> Candidates:
        """Return the best `count` unseen items of each query."""
        return Candidates(
            *self.index.search(self.user_vectors[queries.user], count, queries.exclude)
        )


def stage_one(
    snapshot: Snapshot,
    vectors: tuple[Array, Array],
    settings: IndexSettings,
    seed: int,
    head: PairHead | None = None,
    added: int = 0,
) -> StageOne:
    """Build the index over the vectors of the catalogue; a head scores all of them."""
    catalogue = snapshot.catalogue
    index: Index | PairIndex
    if head is not None:
        index = PairIndex.build(vectors[1], catalogue, head)
    else:
        index = Index.build(settings, vectors[1], catalogue, seed)
    return StageOne(snapshot, *vectors, index, added)


def catalogue(data: Encoded, stage: StageOne) -> Catalogue:
    """Return what the candidate features look up."""
    vectors = stage.item_vectors[:, : stage.item_vectors.shape[1] - stage.added]
    return Catalogue(vectors, data.item_features, data.user_features, stage.snapshot.statistics)


def training_rows(
    data: Encoded, stage: StageOne, window: Window, count: int
) -> tuple[Pairs, Array]:
    """Return the candidates of the window's users and whether each was taken in the window.

    Candidates and features know only the stage's snapshot, so nothing of the window, from which
    the labels come, and nothing of the test can leak into them.
    """
    queries = stage.queries(window.users)
    found = stage.candidates(queries, count)
    rows = pairs(catalogue(data, stage), queries, stage.user_vectors[window.users], found)
    return rows, taken(rows, window.relevant, len(data.items))


def taken(rows: Pairs, relevant: Ragged, n_items: int) -> Array:
    """Return 1 where a row's item is relevant to its query, else 0, float32 `[R]`."""
    wanted = relevant.rows * n_items + relevant.values
    return np.isin(rows.query * n_items + rows.item, wanted).astype(np.float32)


MIN_GROUPS = 20


@dataclass(frozen=True)
class StageTwo:
    """A fitted reranker, if there was enough to learn from, and whether it earned its place.

    Attributes:
        facts: `name`, `earned`, and what `rerankers.earns` measured or the `reason` for none.
    """

    reranker: Reranker | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """What a reranker learns from: the candidates of the window's users.

    Attributes:
        pairs: rows, in stage 1's order.
        labels: 1 where a row's item was taken in the window, float32 `[R]`.
        item_vectors: float32 `[I, d]`.
        names: of the features.
        relevant: all that each user took in the window.
    """

    pairs: Pairs
    labels: Array
    item_vectors: Array
    names: tuple[str, ...]
    relevant: Ragged

    @property
    def given(self) -> tuple[Pairs, Array, Array, tuple[str, ...]]:
        """Return what a reranker is fitted to, as `RerankerSettings.fit` takes it."""
        return self.pairs, self.labels, self.item_vectors, self.names


def learned(data: Encoded, stage: StageOne, window: Window, count: int) -> Learned:
    """Return what a reranker of `count` candidates learns from.

    Raises:
        TooFew: too few users took one of their candidates.
    """
    rows, labels = training_rows(data, stage, window, count)
    groups = len(np.unique(rows.query[labels > 0]))
    if groups < MIN_GROUPS:
        raise TooFew(
            f"{groups} of {len(window.users)} users of the validation window took one of their "
            f"{count} candidates in it, and a reranker needs {MIN_GROUPS}; widen the window "
            "(split), or raise candidates"
        )
    names = feature_names(catalogue(data, stage))
    return Learned(rows, labels, stage.item_vectors, names, window.relevant)


class TooFew(ValueError):
    """There is too little to learn from."""


def fit_reranker(
    settings: RerankerSettings,
    data: Encoded,
    stage: StageOne,
    window: Window,
    count: int,
    seed: int,
    threads: int,
) -> StageTwo:
    """Fit on the window's users; judge on out-of-fold scores of the same users."""
    try:
        rows = learned(data, stage, window, count)
    except TooFew as error:
        return StageTwo(None, {"earned": False, "reason": str(error)})
    scores = cross_fit(settings, *rows.given, seed=seed, threads=threads)
    judged = earns(rows.pairs, rows.labels, scores, window.relevant, seed=seed)
    fitted = settings.fit(*rows.given, seed, threads)
    return StageTwo(fitted, {"name": fitted.name, **judged})


def rank_both(
    data: Encoded,
    stage: StageOne,
    reranker: Reranker | None,
    users: Array,
    count: int,
    k: int,
    unseen: bool = True,
) -> tuple[Array, Array]:
    """Rank for users by both stages and by stage 1, in blocks of users.

    Args:
        data: with the attributes that the reranker reads.
        stage: stage 1.
        reranker: stage 2, or None.
        users: whom for, `[B]`.
        count: candidates that stage 2 orders.
        k: how many items.
        unseen: whether what a user has seen is left out.

    Returns:
        both stages' ranking `[B, k]` and stage 1's `[B, max(count, k)]`, -1 after the last.
    """
    described = catalogue(data, stage)
    blocks = [users[start : start + 1024] for start in range(0, len(users), 1024)]
    ranked = [_rank_block(described, stage, reranker, b, count, k, unseen) for b in blocks]
    return np.concatenate([r for r, _ in ranked]), np.concatenate([c for _, c in ranked])


def _rank_block(
    described: Catalogue,
    stage: StageOne,
    reranker: Reranker | None,
    users: Array,
    count: int,
    k: int,
    unseen: bool,
) -> tuple[Array, Array]:
    queries = stage.queries(users)
    if not unseen:
        queries = replace(queries, exclude=Ragged.empty(len(users)))
    everything = stage.candidates(queries, max(count, k))
    if reranker is None:
        return everything.items[:, :k], everything.items
    found = Candidates(everything.items[:, :count], everything.scores[:, :count])
    present = found.items >= 0
    scores = np.full(present.shape, -np.inf, dtype=np.float32)
    rows = pairs(described, queries, stage.user_vectors[users], found)
    scores[present] = reranker.score(rows)
    best, _ = top_k(scores, k)
    ranked = np.full((len(users), k), -1, dtype=np.int32)
    ranked[:, : best.shape[1]] = np.take_along_axis(found.items, best, axis=1)
    return ranked, everything.items


def recall_at_candidates(found: Array, relevant: Ragged) -> Array:
    """Return the share of each user's relevant items among the candidates: stage 2's ceiling."""
    return per_user(found, relevant, found.shape[1])["recall"]

"""Stage 2 as a deployment of its own, and its input from stage 1 as a message of arrays."""

from serve.loopback import bind_to_node
from train.bundle.bundle import open_bundle
from train.core.features import Features
from train.core.ragged import Array, Ragged
from train.index.candidates import Candidates, Queries
from train.recommender.ranking import rank_candidates
from train.recommender.requests import Request, Retrieved
from train.recommender.retrieval import retrieve

Attributes = tuple[Array, Array, Array, Array]
"""Dense attributes of users `[B, D]`; values and offsets of their categories; who gives them."""

Message = tuple[Array, Array, Array, Attributes | None, Array, Array, Array, Array | None, int]
"""User indices `[B]`; values and offsets of the histories; attributes that came with requests; user
vectors `[B, d]`; items and scores of the candidates `[B, C]`; which sources proposed them; k."""

Ranked = tuple[Array, Array]
"""The best items of each request, int32 `[B, k]`, and their scores."""


class RankingReplica:
    """Ranks the candidates of a whole batch in one call.

    Args:
        bundle: the bundle's folder or URI.
    """

    def __init__(self, bundle: str) -> None:
        bind_to_node()
        self._recommender = open_bundle(bundle).recommender
        # Caches are filled now, not while the first request waits.
        known = Request(self._recommender.users.ids[0].as_py())
        retrieved = retrieve(self._recommender, [known])
        rank_candidates(self._recommender, *unpack(pack(retrieved, 1)))

    async def rank(self, version: str, message: Message) -> Ranked | None:
        """Return the best items of each request, or None for a message of another bundle.

        Users, items and vectors of a message are positions in, and coordinates of, one bundle;
        while an application is updated, replicas of two bundles are there.

        Args:
            version: of the bundle that the message was made with.
            message: as `pack` makes it.
        """
        if version != self._recommender.version:
            return None
        return rank_candidates(self._recommender, *unpack(message))

    async def version(self) -> str:
        """Return the version of the loaded bundle."""
        return self._recommender.version


def pack(retrieved: Retrieved, k: int) -> Message:
    """Return the input of the ranking as arrays; exclusions were applied in stage 1."""
    queries = retrieved.queries
    return (
        queries.user,
        queries.history.values,
        queries.history.offsets,
        _packed(queries),
        retrieved.vectors,
        retrieved.candidates.items,
        retrieved.candidates.scores,
        retrieved.candidates.proposed,
        k,
    )


def unpack(message: Message) -> tuple[Queries, Array, Candidates, int]:
    """Return the arguments of `rank_candidates` from a message of `pack`."""
    user, values, offsets, attributes, vectors, items, scores, proposed, k = message
    queries = Queries(user, Ragged(values, offsets), Ragged.empty(len(user)), *_read(attributes))
    return queries, vectors, Candidates(items, scores, proposed), k


def _packed(queries: Queries) -> Attributes | None:
    of = queries.attributes
    if of is None or queries.described is None:
        return None
    return of.dense, of.categories.values, of.categories.offsets, queries.described


def _read(packed: Attributes | None) -> tuple[Features | None, Array | None]:
    if packed is None:
        return None, None
    dense, codes, offsets, described = packed
    # Names are those of the bundle, which both stages have, and which nothing here reads.
    return Features(dense, (), Ragged(codes, offsets), ()), described

"""Stage 2 as a deployment of its own, and its input from stage 1 as a message of arrays."""

from serve.loopback import bind_to_node
from train.bundle.bundle import open_bundle
from train.core.ragged import Array, Ragged
from train.index.candidates import Candidates, Queries
from train.recommender.ranking import rank_candidates
from train.recommender.requests import Request, Retrieved
from train.recommender.retrieval import retrieve

Message = tuple[Array, Array, Array, Array, Array, Array, Array | None, int]
"""User indices `[B]`; values and offsets of the histories; user vectors `[B, d]`; items and scores
of the candidates `[B, C]`; which sources proposed them; k."""

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
    history = retrieved.queries.history
    return (
        retrieved.queries.user,
        history.values,
        history.offsets,
        retrieved.vectors,
        retrieved.candidates.items,
        retrieved.candidates.scores,
        retrieved.candidates.proposed,
        k,
    )


def unpack(message: Message) -> tuple[Queries, Array, Candidates, int]:
    """Return the arguments of `rank_candidates` from a message of `pack`."""
    user, values, offsets, vectors, items, scores, proposed, k = message
    queries = Queries(user=user, history=Ragged(values, offsets), exclude=Ragged.empty(len(user)))
    return queries, vectors, Candidates(items, scores, proposed), k

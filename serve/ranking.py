"""Stage 2 as a deployment of its own, and what travels to it from stage 1."""

from serve.loopback import bind_to_node
from train.bundle.bundle import open_bundle
from train.core.ragged import Array, Ragged
from train.index.candidates import Candidates, Queries
from train.recommender.ranking import rank_candidates
from train.recommender.requests import Request, Retrieved
from train.recommender.retrieval import retrieve

Message = tuple[Array, Array, Array, Array, Array, Array, int]


class RankingReplica:
    """Ranks the candidates of a whole batch in one call.

    Args:
        bundle: the bundle's folder or URI.
    """

    def __init__(self, bundle: str) -> None:
        bind_to_node()
        self._recommender = open_bundle(bundle).recommender
        # What is computed once is computed now, not while the first request waits.
        known = Request(self._recommender.users.ids[0].as_py())
        found = retrieve(self._recommender, [known])
        rank_candidates(self._recommender, *unpack(pack(found, 1)))

    async def rank(self, message: Message) -> tuple[Array, Array]:
        """Return the best items of each query, int32 `[B, k]`, and their scores."""
        return rank_candidates(self._recommender, *unpack(message))

    async def version(self) -> str:
        """Return the version of the bundle that is loaded."""
        return self._recommender.version


def pack(found: Retrieved, k: int) -> Message:
    """Return what ranking needs, as arrays: what to exclude stays with stage 1."""
    history = found.queries.history
    return (
        found.queries.user,
        history.values,
        history.offsets,
        found.vectors,
        found.candidates.items,
        found.candidates.scores,
        k,
    )


def unpack(message: Message) -> tuple[Queries, Array, Candidates, int]:
    """Return the arguments of `rank_candidates` from what `pack` made."""
    user, values, offsets, vectors, items, scores, k = message
    queries = Queries(user=user, history=Ragged(values, offsets), exclude=Ragged.empty(len(user)))
    return queries, vectors, Candidates(items=items, scores=scores), k
